"""What the server makes of a file's name and bytes."""

from datetime import datetime, timedelta

from mirror.core.model import AssetType
from mirror.sandbox import dates
from mirror.sandbox.content import Content
from mirror.sandbox.refusals import JsonObject

VIDEO_EXTENSIONS = """
.3gp .3gpp .avi .flv .insv .m2t .m2ts .m4v .mkv .mov .mp4 .mpe .mpeg .mpg .mts .mxf .ts
.vob .webm .wmv
""".split()  # noqa: SIM905 (readable)
IMAGE_EXTENSIONS = """
.avif .bmp .gif .jpeg .jpg .png .webp .3fr .ari .arw .cap .cin .cr2 .cr3 .crw .dcr .dng
.erf .fff .iiq .k25 .kdc .mrw .nef .nrw .orf .ori .pef .psd .raf .raw .rw2 .rwl .sr2 .srf
.srw .x3f .heic .heif .hif .insp .jp2 .jpe .jxl .mpo .svg .tif .tiff
""".split()  # noqa: SIM905 (readable)
_UNLIKE_EXTENSION = {
    "jpg": "image/jpeg",
    "jpe": "image/jpeg",
    "tif": "image/tiff",
    "insp": "image/jpeg",
    "3gp": "video/3gpp",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "m4v": "video/x-m4v",
    "mpg": "video/mpeg",
    "mpe": "video/mpeg",
    "wmv": "video/x-ms-wmv",
    "flv": "video/x-flv",
    "mts": "video/mp2t",
    "m2ts": "video/mp2t",
    "m2t": "video/mp2t",
    "ts": "video/mp2t",
}
_EXIF: JsonObject = dict.fromkeys(
    (
        "make",
        "model",
        "exifImageWidth",
        "exifImageHeight",
        "fileSizeInByte",
        "orientation",
        "dateTimeOriginal",
        "modifyDate",
        "timeZone",
        "lensModel",
        "fNumber",
        "focalLength",
        "iso",
        "exposureTime",
        "latitude",
        "longitude",
        "city",
        "state",
        "country",
        "description",
        "projectionType",
        "rating",
    )
)


def extension(name: str) -> str:
    """With its dot, as written; empty for `.jpg` alone."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return dot + ending if stem else ""


def mime_type_of(name: str) -> str:
    """By the extension alone, as the server judges; unknown ones are octet streams."""
    ending = extension(name).lower()
    kind = ending.removeprefix(".")
    if kind in _UNLIKE_EXTENSION:
        return _UNLIKE_EXTENSION[kind]
    if ending in VIDEO_EXTENSIONS:
        return f"video/{kind}"
    return f"image/{kind}" if ending in IMAGE_EXTENSIONS else "application/octet-stream"


def type_of(name: str) -> AssetType:
    """IMAGE unless the name says video."""
    return AssetType.VIDEO if mime_type_of(name).startswith("video/") else AssetType.IMAGE


def upload_path(owner_id: str, asset_id: str, name: str) -> str:
    """Where a server without storage template keeps an upload."""
    shelf = f"{asset_id[:2]}/{asset_id[2:4]}"
    return f"/data/upload/upload/{owner_id}/{shelf}/{asset_id}{extension(name)}"


def exif_of(content: Content, taken_at: datetime, offset: timedelta) -> JsonObject:
    """A row of `exifInfo` for a file that says only when it was taken."""
    size = {"fileSizeInByte": content.size_bytes or None, "description": ""}
    return _EXIF | size | exif_dates(taken_at, offset)


def exif_dates(taken_at: datetime, offset: timedelta) -> JsonObject:
    """The date fields of `exifInfo`."""
    stamp = dates.from_database(taken_at)
    return {"dateTimeOriginal": stamp, "modifyDate": stamp, "timeZone": zone_name(offset)}


def zone_name(offset: timedelta) -> str | None:
    """As the server writes a distance from UTC: `UTC+2`, `UTC-3:30`; None for none."""
    minutes = offset // timedelta(minutes=1)
    if minutes == 0:
        return None
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02d}" if rest else "")


def face(face_id: str) -> JsonObject:
    """Where someone is on a photo, as 2.x lists it."""
    box = {"boundingBoxX1": 0, "boundingBoxY1": 0, "boundingBoxX2": 32, "boundingBoxY2": 32}
    return {"id": face_id, **box, "imageWidth": 64, "imageHeight": 64, "sourceType": "manual"}
