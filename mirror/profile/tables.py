"""A profile as it is written: the tables of the TOML file, and what each key is for.

A key that was not given is None here; the defaults are those of `mirror.core.model`. The
docstrings become the descriptions of the published JSON Schema (`mirror.profile.text`); pydantic
would look for them in this source at every start.
"""

from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)

from mirror.core.model import Dedupe, LivePhotos, NameRules, OnGone, Order, Owners
from mirror.profile.values import (
    NAMED,
    After,
    ApiKey,
    Before,
    Days,
    Duration,
    File,
    Folder,
    MetricsFile,
    Mount,
    Name,
    Names,
    OneOrMany,
    Ping,
    Rate,
    Ratings,
    RemoteUrl,
    Search,
    Server,
    Size,
    Text,
    Texts,
    Transfers,
    Types,
    UnsetOrTexts,
    Visibilities,
    not_empty,
)


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )


class AccountTable(_Table):
    """One account: a server and an API key for it."""

    api_key: ApiKey
    """Where the API key is read from: one of credential, file, env and command."""
    server: Server | None = None
    """The server's URL, if it is not the profile's."""


class LimitTable(_Table):
    """A threshold: held above 10, and above count or share."""

    count: Annotated[StrictInt, Field(ge=0)] | None = None
    """Most files."""
    share: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None
    """Largest part of the files known, from 0 to 1."""


class FilterTable(_Table):
    """Which assets: all keys must agree, of a list any one."""

    taken_after: After | None = None
    """Taken at this instant or later; a bare date is the first instant of that day."""
    taken_before: Before | None = None
    """Taken at this instant or earlier; a bare date is the last instant of that day."""
    taken_within_days: Days | None = None
    """Taken in the last so many days."""
    uploaded_after: After | None = None
    """Uploaded at this instant or later."""
    uploaded_before: Before | None = None
    """Uploaded at this instant or earlier."""
    uploaded_within_days: Days | None = None
    """Uploaded in the last so many days."""
    after: After | None = None
    """The same as uploaded_after."""
    last_days: Days | None = None
    """The same as uploaded_within_days."""
    updated_after: After | None = None
    """Changed on the server at this instant or later."""
    updated_before: Before | None = None
    """Changed on the server at this instant or earlier."""
    people: Names | None = None
    """Names or ids of people: any of them, or { all = [...] }."""
    albums: Names | None = None
    """Names or ids of albums: any of them, or { all = [...] }."""
    tags: Names | None = None
    """Names or ids of tags: any of them, or { all = [...] }."""
    type: Types | None = None
    """IMAGE, VIDEO, AUDIO or OTHER."""
    favorite: StrictBool | None = None
    """Marked as favourite, or not."""
    visibility: Visibilities | None = None
    """timeline, archive, or both."""
    in_album: StrictBool | None = None
    """In at least one album, or in none."""
    rating: Ratings | None = None
    """Stars, from 1 to 5."""
    city: UnsetOrTexts | None = None
    """City, exactly as Immich shows it; "" is unset."""
    state: UnsetOrTexts | None = None
    """State or province; "" is unset."""
    country: UnsetOrTexts | None = None
    """Country; "" is unset."""
    make: UnsetOrTexts | None = None
    """Maker of the camera; "" is unset."""
    model: UnsetOrTexts | None = None
    """Model of the camera; "" is unset."""
    file_name: Texts | None = None
    """A part of the original file name, in any case."""
    owners: Owners | None = None
    """me, or anyone: partners and contributors to shared albums too."""
    search: Search | None = None
    """Any other search field, under the server's own name."""

    @model_validator(mode="after")
    def _times_in_order(self) -> "FilterTable":
        for kind in ("taken", "uploaded", "updated"):
            after, before = getattr(self, f"{kind}_after"), getattr(self, f"{kind}_before")
            if kind == "uploaded":
                after = after or self.after
            if after is not None and before is not None and after > before:
                raise ValueError(f"{kind}_after is later than {kind}_before: nothing can match")
        return self


class DestinationKeys(_Table):
    """What a destination is told; a mirror and [defaults] may tell it for all of theirs."""

    on_removed: OnGone | None = None
    """What becomes of the file of an asset that is gone from the server."""
    on_unmatched: OnGone | None = None
    """What becomes of the file of an asset that exists and no longer matches the filter."""
    quarantine_days: Annotated[StrictInt, Field(ge=1, le=36_500)] | None = None
    """Days that replaced and removed files wait in quarantine, at least 1."""
    max_removed: LimitTable | None = None
    """Most files one run may remove or replace; more are held."""
    max_lost: LimitTable | None = None
    """Most files that may have vanished from the disk; more hold their download."""
    min_free: Size | None = None
    """Free space that is never used up, such as "1GiB"."""
    require_mount: Mount | None = None
    """true: the destination lies on a mounted disk; or the mount point's path."""
    dedupe: Dedupe | None = None
    """Store bytes that several destinations hold once: off, reflink or hardlink."""


class MirrorKeys(DestinationKeys):
    """What a mirror is told; [defaults] may tell it for all mirrors."""

    account: Text | None = None
    """The account, by its name under [accounts]; may be left out if there is only one."""
    filter: FilterTable | None = None
    """Which assets the mirror selects."""
    exclude: Annotated[tuple[FilterTable, ...], OneOrMany()] | None = None
    """Assets to leave out: one filter, or several of which any suffices."""
    layout: Text | None = None
    """The rule that gives each asset its path below the destination."""
    names: NameRules | None = None
    """Which characters a name may keep: those legal everywhere, or all that POSIX allows."""
    live_photos: LivePhotos | None = None
    """Which half of live photos: the still, the video, or both."""
    transfers: Annotated[Transfers, Strict()] | None = None
    """Most originals downloaded at once."""
    order: Order | None = None
    """Which originals come first: path, newest, oldest or smallest."""


class DestinationTable(DestinationKeys):
    """Where files are written, and under which policies."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["path"]}, {"required": ["url"]}]}
    )

    path: Folder | None = None
    """The folder: absolute, or beginning with "~/"."""
    url: RemoteUrl | None = None
    """Elsewhere instead of a folder: s3://bucket/prefix, or sftp://user@host/folder."""
    endpoint: Server | None = None
    """Where the bucket's store answers, if it is not Amazon's, nor said by AWS_ENDPOINT_URL."""
    region: Text | None = None
    """The bucket's region, if AWS_REGION does not say it."""
    access_key: ApiKey | None = None
    """Where the access key id is read from; without it, the AWS environment."""
    secret_key: ApiKey | None = None
    """Where the secret access key is read from; without it, the AWS environment."""
    key_file: File | None = None
    """The private key for SFTP; without it or a password, the user's own and ssh-agent's."""
    password: ApiKey | None = None
    """Where the password for SFTP is read from."""
    known_hosts: File | None = None
    """The file that has the server's key; without it, that of the user and the machine's."""

    @model_validator(mode="after")
    def _one_place(self) -> "DestinationTable":
        if (self.path is None) == (self.url is None):
            raise ValueError(
                "should have either path, for a folder, or url, for a bucket or a server"
            )
        of_buckets = (self.endpoint, self.region, self.access_key, self.secret_key)
        if not _has(self.url, "s3://") and any(value is not None for value in of_buckets):
            raise ValueError("endpoint, region, access_key and secret_key are for a url of s3://")
        of_servers = (self.key_file, self.password, self.known_hosts)
        if not _has(self.url, "sftp://") and any(value is not None for value in of_servers):
            raise ValueError("key_file, password and known_hosts are for a url of sftp://")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key go together")
        if self.url is not None and (self.require_mount or self.dedupe not in (None, Dedupe.OFF)):
            raise ValueError("require_mount and dedupe are for a path")
        return self


def _has(url: str | None, scheme: str) -> bool:
    return url is not None and url.startswith(scheme)


class MirrorTable(MirrorKeys):
    """One named selection of one account and where it goes."""

    destinations: Annotated[
        tuple[DestinationTable, ...],
        BeforeValidator(not_empty),
        Field(json_schema_extra={"minItems": 1}),
    ]
    """Where files are written, at least one."""


class DefaultsTable(MirrorKeys):
    """Any key of a mirror or a destination, for all mirrors of the profile."""


class ProfileTable(_Table):
    """Accounts, and mirrors of them."""

    server: Server | None = None
    """The server's URL; "/api" is found by itself."""
    metrics: MetricsFile | None = None
    """A file ending in .prom for Prometheus' node_exporter, written after every run."""
    ping: Ping | None = None
    """The URL of a dead man's switch, such as healthchecks.io's; or where it is read from."""
    bandwidth: Rate | None = None
    """How fast all mirrors together may download, as "10M" or as a timetable of rclone's."""
    max_transfer: Size | None = None
    """How much one run may download, such as "50GiB"; the next run goes on."""
    max_duration: Duration | None = None
    """How long one run may begin downloads, such as "4h"; the next run goes on."""
    accounts: Annotated[
        dict[Name, AccountTable],
        BeforeValidator(not_empty),
        Field(json_schema_extra=NAMED),
    ]
    """The accounts, by a name of your choice."""
    defaults: DefaultsTable = DefaultsTable.model_construct()  # which builds nothing
    """For all mirrors: any of their keys, and any of a destination."""
    mirrors: Annotated[
        dict[Name, MirrorTable],
        BeforeValidator(not_empty),
        Field(json_schema_extra=NAMED),
    ]
    """The mirrors, by a name of your choice."""
