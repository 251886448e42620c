"""Words to type that several messages show."""

EVAL_DATA = "data.format=voc data.root=FOLDER data.split=test"
