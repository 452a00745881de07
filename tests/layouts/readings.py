"""XML of the readers of LIDC-IDRI."""

from pathlib import Path

SERIES = "1.3.6.1.4.1.14519.5.2.1.6279.6001.1"
RATINGS = "".join(
    f"<{name}>3</{name}>"
    for name in [
        "subtlety",
        "internalStructure",
        "calcification",
        "sphericity",
        "margin",
        "lobulation",
        "spiculation",
        "texture",
        "malignancy",
    ]
)


def outline(left: int, top: int, right: int, bottom: int) -> list[tuple[int, int]]:
    """The pixels of a box's border in turn, the first again at the end."""
    points = [(x, top) for x in range(left, right)] + [(right, y) for y in range(top, bottom)]
    points += [(x, bottom) for x in range(right, left, -1)] + [(left, y) for y in range(bottom, top, -1)]
    return [*points, points[0]]


def roi(uid: str, points: list[tuple[int, int]], inclusion: str = "TRUE") -> str:
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points)
    place = f"<imageZposition>-105.0</imageZposition><imageSOP_UID>{uid}</imageSOP_UID>"
    return f"<roi>{place}<inclusion>{inclusion}</inclusion>{edges}</roi>"


def nodule(*rois: str, ratings: str = RATINGS) -> str:
    rated = f"<characteristics>{ratings}</characteristics>" if ratings else ""
    return f"<unblindedReadNodule><noduleID>1</noduleID>{rated}{''.join(rois)}</unblindedReadNodule>"


def reading(path: Path, *sessions: str, root: str = "LidcReadMessage", uid: str = SERIES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = "".join(
        "<readingSession><annotationVersion>3.12</annotationVersion>"
        f"<servicingRadiologistID>anonymous</servicingRadiologistID>{session}</readingSession>"
        for session in sessions
    )
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} uid="1.3" xmlns="http://www.nih.gov">'
        "<ResponseHeader><Version>1.8.1</Version><TaskDescription>Second unblinded read</TaskDescription>"
        f"<SeriesInstanceUid>{uid}</SeriesInstanceUid></ResponseHeader>{body}</{root}>"
    )
