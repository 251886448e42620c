"""Names of the official lists: against the lists as others publish them, and how two sides meet."""

from __future__ import annotations

import pytest
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from detkit.class_names import (
    COCO_CATEGORY_IDS,
    COCO_NAMES,
    SYNONYMS,
    VOC_NAMES,
    OtherClassesError,
    canonical_name,
    coco_category_ids,
    few,
    match_classes,
    names_in_words,
    one_spelling,
    read_as_one,
)
from detkit.errors import ConfigError

# data/coco.names as it lies beside the authors' weights, in the order of the outputs.
DARKNET = """person,bicycle,car,motorbike,aeroplane,bus,train,truck,boat,traffic light,fire hydrant,
stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,
umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,
skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,
sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,sofa,pottedplant,bed,diningtable,
toilet,tvmonitor,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,
book,clock,vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(",")


def test_the_authors_names_are_cocos_in_cocos_order() -> None:
    assert [canonical_name(name) for name in DARKNET] == list(COCO_NAMES)
    assert {name for name in DARKNET if name not in COCO_NAMES} == set(SYNONYMS)
    assert match_classes(DARKNET, COCO_NAMES) == dict(zip(DARKNET, COCO_NAMES, strict=True))
    assert match_classes(COCO_NAMES, DARKNET) == dict(zip(COCO_NAMES, DARKNET, strict=True))


def test_every_class_of_voc_is_one_of_cocos() -> None:
    met = match_classes(VOC_NAMES, COCO_NAMES)
    assert len(set(met.values())) == len(VOC_NAMES) == 20
    assert {name: coco for name, coco in met.items() if name != coco} == SYNONYMS


def test_category_ids_are_those_of_torchvisions_labels() -> None:
    """Its labels are COCO's ids; 0 is background."""
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    theirs = {name: i for i, name in enumerate(names) if name not in ("N/A", "__background__")}
    assert theirs == COCO_CATEGORY_IDS
    assert coco_category_ids(names[1:]) == theirs
    assert list(coco_category_ids(DARKNET).values()) == list(theirs.values())
    assert coco_category_ids(("sofa", "Traffic_Light")) == {"sofa": 63, "Traffic_Light": 10}


def test_what_coco_lacks_has_no_category_id() -> None:
    with pytest.raises(ConfigError) as caught:
        coco_category_ids(("RBC", "person", "WBC"))
    assert str(caught.value) == (
        "COCO's category ids: it has no class for RBC, WBC; the names are 3: RBC, person, WBC. "
        "Leave its ids out, and classes are numbered from 1."
    )
    with pytest.raises(ConfigError, match="no class for motorbike; the names are 2"):
        coco_category_ids(("motorbike", "motorcycle"))  # two classes, and COCO has one


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("motorbike", "motorcycle", True),
        ("tvmonitor", "TV", True),
        ("TV monitor", "tv", True),
        ("traffic_light", "Traffic light", True),
        ("hot-dog", "hot dog", True),
        ("Helmet", "Helmet", True),
        ("Helmet", "helmet", False),  # of no official list: its authors know
        ("bike", "bicycle", False),
        ("dog", "hot dog", False),
        ("car", "cart", False),
        ("", " ", False),
    ],
)
def test_names_of_one_class(one: str, other: str, same: bool) -> None:
    assert (canonical_name(one) == canonical_name(other)) is same


@pytest.mark.parametrize(
    ("names", "known", "met"),
    [
        # what is spelt alike comes first, wherever it stands
        (["motorcycle"], ["motorbike", "motorcycle"], {"motorcycle": "motorcycle"}),
        # two classes on either side: only what is spelt alike meets
        (["motorbike", "motorcycle"], ["motorcycle"], {"motorcycle": "motorcycle"}),
        (["Motorbike", "motorbike"], ["motorcycle"], {}),
        (["Motorbike"], ["motorcycle", "motorbike"], {}),
        # the order of the answer is that of the names; a name twice is one
        (["sofa", "cat", "sofa"], ["cat", "couch"], {"sofa": "couch", "cat": "cat"}),
        (["cat", "dgo"], ["cat", "dog"], {"cat": "cat"}),
        ([], ["cat"], {}),
    ],
)
def test_lists_meet(names: list[str], known: list[str], met: dict[str, str]) -> None:
    assert match_classes(names, known) == met
    assert list(match_classes(names, known)) == list(met)


def test_one_spelling_is_the_first_lists() -> None:
    assert one_spelling([["sofa", "cat"], ["couch"], ["Couch", "dog"]]) == {
        **{"sofa": "sofa", "couch": "sofa", "Couch": "sofa"},
        **{"cat": "cat", "dog": "dog"},
    }
    both = one_spelling([["sofa"], ["couch", "sofa"], ["Sofa"]])  # classes of their own there
    assert both == {"sofa": "sofa", "couch": "couch", "Sofa": "Sofa"}


def test_in_words() -> None:
    assert few("abcdef") == "a, b, c, d, e, f"
    assert few("abcdefg") == "a, b, c, d, e, ..., g"
    assert few(["a\nb", "x" * 61]) == f"'a\\nb', '{'x' * 60}'..."
    assert names_in_words(COCO_NAMES) == (
        "80: person, bicycle, car, motorcycle, airplane, ..., toothbrush"
    )
    assert names_in_words(()) == "none"
    assert read_as_one({"sofa": "couch", "cat": "cat", "TV": "tv"}) == (
        "read as one class: sofa = couch, TV = tv"
    )
    assert read_as_one({"cat": "cat"}) == ""


def test_both_sides_are_named() -> None:
    problem = OtherClassesError("a.xml", "dgo", ["cat", "dog"], ["cat", "dgo"])
    assert str(problem) == (
        "a.xml: class 'dgo' is not in data.classes. Did you mean 'dog'? data.classes has 2: cat, "
        "dog; the data has 2: cat, dgo. Name all of them, or none, which takes the data's. "
        "Or leave the objects of other classes out: 'data.only=[cat, dog]'."
    )
    again = problem.in_words("is none of the checkpoint's", "The checkpoint knows", "Look.")
    assert str(again) == (
        "a.xml: class 'dgo' is none of the checkpoint's. Did you mean 'dog'? The checkpoint knows "
        "2: cat, dog; the data has 2: cat, dgo. Look. "
        "Or leave the objects of other classes out: 'data.only=[cat, dog]'."
    )
