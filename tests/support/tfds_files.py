"""Writes a set as TFDS would prepare it."""

import json


def write_set(root, features, splits, *, supervised=None, file_format="array_record"):
    """Writes a set named "toy"; splits maps a name to samples, mappings from feature to bytes or an integer."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.proto import tf_example_pb2

    folder = root / "toy" / "1.2.0"
    folder.mkdir(parents=True)
    infos = []
    for split, samples in splits.items():
        writer = ArrayRecordWriter(str(folder / f"toy-{split}.array_record-00000-of-00001"), "group_size:1")
        for sample in samples:
            example = tf_example_pb2.Example()
            for key, value in sample.items():
                feature = example.features.feature[key]
                (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(value)
            writer.write(example.SerializeToString())
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        infos.append({"filepathTemplate": template, "name": split, "shardLengths": [str(len(samples))]})
    info = {"fileFormat": file_format, "moduleName": "toy", "name": "toy", "splits": infos, "version": "1.2.0"}
    if supervised:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": key} for key in supervised]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    top = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
    (folder / "features.json").write_text(
        json.dumps({"pythonClassName": top, "featuresDict": {"features": {**features}}})
    )
    return folder
