"""Writer of caffemodels with the protobuf library; message and field numbers are from caffe.proto."""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
MESSAGES = {  # name -> field -> number, type, repeated, packed
    "BlobShape": {"dim": (1, FIELD.TYPE_INT64, True, True)},
    "BlobProto": {
        "num": (1, FIELD.TYPE_INT32, False, False),
        "channels": (2, FIELD.TYPE_INT32, False, False),
        "height": (3, FIELD.TYPE_INT32, False, False),
        "width": (4, FIELD.TYPE_INT32, False, False),
        "data": (5, FIELD.TYPE_FLOAT, True, True),
        "diff": (6, FIELD.TYPE_FLOAT, True, True),
        "shape": (7, "BlobShape", False, False),
    },
    "V1LayerParameter": {
        "bottom": (2, FIELD.TYPE_STRING, True, False),
        "name": (4, FIELD.TYPE_STRING, False, False),
        "type": (5, FIELD.TYPE_INT32, False, False),
        "blobs": (6, "BlobProto", True, False),
        "blobs_lr": (7, FIELD.TYPE_FLOAT, True, False),
    },
    "LayerParameter": {
        "name": (1, FIELD.TYPE_STRING, False, False),
        "type": (2, FIELD.TYPE_STRING, False, False),
        "blobs": (7, "BlobProto", True, False),
    },
    "NetParameter": {
        "name": (1, FIELD.TYPE_STRING, False, False),
        "layers": (2, "V1LayerParameter", True, False),
        "input": (3, FIELD.TYPE_STRING, True, False),
        "layer": (100, "LayerParameter", True, False),
    },
}


def _net_parameter():
    file = descriptor_pb2.FileDescriptorProto(name="caffe_files.proto", package="caffe_files")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind, repeated, packed) in fields.items():
            label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
            field = message.field.add(name=field_name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = FIELD.TYPE_MESSAGE, f".caffe_files.{kind}"
            else:
                field.type = kind
            if repeated and not isinstance(kind, str) and kind != FIELD.TYPE_STRING:
                field.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe_files.NetParameter"))


def write_caffemodel(path, layers, old: bool) -> None:
    """Write layers, name -> arrays; ``old``: V1 layers and four-dimensional blobs, as in 2014."""
    net = _net_parameter()(name="net", input=["data"])
    for name, arrays in layers.items():
        if old:
            layer = net.layers.add(name=name, type=4, bottom=["data"], blobs_lr=[1.0, 2.0])
        else:
            layer = net.layer.add(name=name, type="Convolution")
        for array in arrays:
            blob = layer.blobs.add(data=array.ravel().tolist())
            if old:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
            else:
                blob.shape.dim.extend(array.shape)
    path.write_bytes(net.SerializeToString())
