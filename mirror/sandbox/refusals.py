"""Answers that say no, before they have a shape: the shape depends on the release."""

from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]

UUID_PATTERN = (
    "/^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-4[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12})$/"
)
REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Server Error",
    501: "Not Implemented",
}


class Refusal(Exception):  # noqa: N818 (an answer, not an accident)
    """The server says no.

    `message` is a list where 2.x answers a list; `issues` is what 3.x adds as `errors`.
    """

    def __init__(
        self,
        status: int,
        message: str | list[str],
        *,
        issues: list[JsonObject] | None = None,
        headers: dict[str, str] | None = None,
        bare: bool = False,
    ) -> None:
        self.status = status
        self.message = message
        self.issues = issues
        self.headers = headers or {}
        self.bare = bare  # refused before the 2.x server has given the request an id
        super().__init__(status, message)

    def body(self, *, modern: bool, correlation_id: str) -> JsonObject:
        """What stands in the answer.

        Source: global-exception.filter.ts of 3.1.0 and 2.7.5, and recordings of both.
        """
        if modern:
            return {"message": self.message} | ({"errors": self.issues} if self.issues else {})
        status = {"statusCode": self.status}
        reason = {} if self.status == 500 else {"error": REASONS[self.status]}  # noqa: PLR2004
        told = {} if self.bare else {"correlationId": correlation_id}
        return {"message": self.message} | reason | status | told


def no_access(permission: str) -> Refusal:
    """Unknown, deleted, locked and foreign things are refused alike."""
    return Refusal(400, f"Not found or no {permission} access")


def not_a_uuid(path: list[str | int], *, modern: bool) -> Refusal:
    """The name of a resource is not a version 4 UUID."""
    if not modern:
        field = f"each value in {path[0]}" if len(path) > 1 else path[0]
        return Refusal(400, [f"{field} must be a UUID"])
    return Refusal(400, "Validation failed", issues=[uuid_issue(path)])


def uuid_issue(path: list[str | int]) -> JsonObject:
    """What 3.x says of a value that is no UUID."""
    return {
        "origin": "string",
        "code": "invalid_format",
        "format": "uuid",
        "pattern": UUID_PATTERN,
        "path": path,
        "message": "Invalid UUID",
    }


def not_implemented(what: str) -> Refusal:
    """A real server could do this; the sandbox would have to pretend, so it refuses loudly."""
    return Refusal(501, f"the sandbox does not implement {what}")
