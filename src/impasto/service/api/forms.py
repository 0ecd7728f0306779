"""Forms that texts of a request have: a pattern each for the document, and words for people."""

STYLE_NAME = "^[a-z0-9_-]{1,64}$"
SIZE = r"^(source|[1-9][0-9]{0,3}p|[1-9][0-9]{0,3}x[1-9][0-9]{0,3})$"
RATE = r"^[0-9]{1,4}(\.[0-9]{1,3})?$|^[0-9]{1,7}/[0-9]{1,7}$"
TIME = (
    r"^[0-9]{1,9}(\.[0-9]{1,9})?s?$|"
    r"^([0-9]{1,3}:)?[0-9]{1,3}:[0-9]{1,3}(\.[0-9]{1,9})?$"
)  # fmt: skip
PRESET = "^[a-z0-9]{1,20}$"
NUMBER = "^[0-9]{1,18}$"
RUN_ID = "^[0-9a-f]{1,64}$"
KEY = "^[!-~]{1,256}$"
LOG_CURSOR = "^run/([0-9T:.+-]{1,40}/[0-9A-Za-z.-]{1,80}/[0-9]{1,9})?$"
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9 ._()+@-]*$"
TOKEN_ID = "^[a-z0-9]{12}$"  # noqa: S105 - no secret
USER = r"^([A-Za-z0-9][A-Za-z0-9._@+-]{0,127}|oidc:[!-~]{1,200})$"
LABEL = r"^[^\x00-\x1f\x7f]*$"
ORIGIN = r"^[A-Za-z0-9.:*_-]{1,253}$"

WORDS = {
    STYLE_NAME: "a style's name, 1 to 64 of a–z, 0–9, _ and -",
    RATE: "frames a second, as 24, 23.976 or 30000/1001",
    SIZE: "source, 720p or 1280x720",
    TIME: "a time, as 12.5, 90s or 00:01:02.5",
    PRESET: "1 to 20 of a–z and 0–9",
    NUMBER: "a number of up to 18 digits",
    RUN_ID: "a run's id, 1 to 64 of 0–9 and a–f",
    KEY: "1 to 256 ASCII characters without a space",
    LOG_CURSOR: "`next` of the page before",
    FILE_NAME: "a file's name: a–z, A–Z, 0–9, space and ._()+@-, a letter, digit or _ first",
    TOKEN_ID: "a token's id, 12 of a–z and 0–9",
    USER: "a user's name: 1 to 128 letters, digits and ._@+-, a letter or digit first",
    LABEL: "text without control characters",
    ORIGIN: "the name of a host",
}
