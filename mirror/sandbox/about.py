"""What the server says of itself and of the key that asks."""

from mirror.sandbox import answers, media
from mirror.sandbox.asking import Ask, Routes
from mirror.sandbox.refusals import Refusal
from mirror.sandbox.replies import Reply, from_json

ROUTES = Routes()


@ROUTES.add("GET", "/.well-known/immich", None)
def _well_known(_ask: Ask) -> Reply:
    return from_json({"api": {"endpoint": "/api"}})


@ROUTES.add("GET", "/api/server/ping", None, in_maintenance=True)
def _ping(_ask: Ask) -> Reply:
    return from_json({"res": "pong"})


@ROUTES.add("GET", "/api/server/version", None, in_maintenance=True)
def _version(ask: Ask) -> Reply:
    release = ask.library.dialect
    numbers = {"major": release.major, "minor": release.minor, "patch": release.patch}
    return from_json(numbers | ({"prerelease": None} if ask.modern else {}))


@ROUTES.add("GET", "/api/server/config", None, in_maintenance=True)
def _config(ask: Ask) -> Reply:
    if ask.faults.maintenance:
        return from_json({"maintenanceMode": True})
    return from_json(
        {
            "loginPageMessage": "",
            "trashDays": 30,
            "userDeleteDelay": 7,
            "oauthButtonText": "Login with OAuth",
            "isInitialized": True,
            "isOnboarded": True,
            "externalDomain": "",
            "publicUsers": True,
            "mapDarkStyleUrl": "https://tiles.immich.cloud/v1/style/dark.json",
            "mapLightStyleUrl": "https://tiles.immich.cloud/v1/style/light.json",
            "maintenanceMode": False,
            **({"minFaces": answers.MIN_FACES} if ask.modern else {}),
        }
    )


_FEATURES = """
smartSearch facialRecognition duplicateDetection map reverseGeocoding importFaces sidecar
search trash oauth oauthAutoLaunch ocr passwordLogin configFile email
""".split()  # noqa: SIM905 (readable)


@ROUTES.add("GET", "/api/server/features", None)
def _features(ask: Ask) -> Reply:
    on = {"map", "reverseGeocoding", "sidecar", "search", "trash", "passwordLogin", "configFile"}
    extra = ["realtimeTranscoding"] if ask.modern else []
    return from_json({name: name in on for name in [*_FEATURES, *extra]})


@ROUTES.add("GET", "/api/server/media-types", None)
def _media_types(ask: Ask) -> Reply:
    images = [kind for kind in media.IMAGE_EXTENSIONS if ask.modern or kind != ".mpo"]
    return from_json({"video": media.VIDEO_EXTENSIONS, "image": images, "sidecar": [".xmp"]})


@ROUTES.add("GET", "/api/server/about", "server.about")
def _about(ask: Ask) -> Reply:
    version = f"v{ask.library.dialect}"
    url = f"https://github.com/immich-app/immich/releases/tag/{version}"
    return from_json({"version": version, "versionUrl": url, "licensed": False})


@ROUTES.add("GET", "/api/api-keys/me", "")
def _key(ask: Ask) -> Reply:
    if ask.key is None:
        raise Refusal(401, "Authentication required")
    return from_json(answers.key(ask.key))


@ROUTES.add("GET", "/api/users/me", "user.read")
def _me(ask: Ask) -> Reply:
    return from_json(answers.myself(ask.library, ask.user))


@ROUTES.add("POST", "/api/sync/stream", "sync.stream")
def _sync(_ask: Ask) -> Reply:
    raise Refusal(403, "Sync endpoints cannot be used with API keys")
