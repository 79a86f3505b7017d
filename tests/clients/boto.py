"""What programs written with boto3 do, with its default checksums: endpoint, bucket and directory are arguments."""

import hashlib
import os
import sys
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT, BUCKET, DIRECTORY, MIB = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
s3 = boto3.client("s3", endpoint_url=ENDPOINT, config=Config(signature_version="s3v4"))


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"{found} instead of {code}"
        return
    raise AssertionError(f"{code} was expected")


def objects():
    body = os.urandom(100_000)
    put = s3.put_object(Bucket=BUCKET, Key="a/k", Body=body, Metadata={"one": "1"}, ContentType="image/png")
    assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()
    assert put["ChecksumCRC32"]
    got = s3.get_object(Bucket=BUCKET, Key="a/k")
    assert got["Body"].read() == body and got["Metadata"] == {"one": "1"} and got["ContentType"] == "image/png"
    part = s3.get_object(Bucket=BUCKET, Key="a/k", Range="bytes=10-19")
    assert part["Body"].read() == body[10:20] and part["ContentRange"] == "bytes 10-19/100000"
    for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
        if algorithm in ("CRC32C", "CRC64NVME"):
            continue  # boto3 needs the CRT library for these
        s3.put_object(Bucket=BUCKET, Key="sum", Body=b"x", ChecksumAlgorithm=algorithm)
        head = s3.head_object(Bucket=BUCKET, Key="sum", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"]
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "a/k"})
    assert s3.get_object(Bucket=BUCKET, Key="copy")["Body"].read() == body
    attributes = s3.get_object_attributes(Bucket=BUCKET, Key="copy", ObjectAttributes=["ETag", "ObjectSize"])
    assert attributes["ObjectSize"] == len(body)
    s3.put_object_tagging(Bucket=BUCKET, Key="copy", Tagging={"TagSet": [{"Key": "t", "Value": "v"}]})
    assert s3.get_object_tagging(Bucket=BUCKET, Key="copy")["TagSet"] == [{"Key": "t", "Value": "v"}]


def conditions():
    s3.put_object(Bucket=BUCKET, Key="lock", Body=b"1", IfNoneMatch="*")
    refused("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="lock", Body=b"2", IfNoneMatch="*")
    etag = s3.head_object(Bucket=BUCKET, Key="lock")["ETag"]
    s3.put_object(Bucket=BUCKET, Key="lock", Body=b"2", IfMatch=etag)
    refused("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="lock", Body=b"3", IfMatch=etag)
    refused("PreconditionFailed", s3.delete_object, Bucket=BUCKET, Key="lock", IfMatch=etag)
    refused("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="none")
    refused("NoSuchBucket", s3.get_object, Bucket="no-such-bucket", Key="none")


def transfers():
    path, back = os.path.join(DIRECTORY, "big"), os.path.join(DIRECTORY, "big.back")
    with open(path, "wb") as file:
        for _ in range(MIB):
            file.write(os.urandom(1 << 20))
    config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20)
    s3.upload_file(path, BUCKET, "big", Config=config)
    s3.download_file(BUCKET, "big", back, Config=config)
    with open(path, "rb") as one, open(back, "rb") as two:
        while True:
            left, right = one.read(1 << 20), two.read(1 << 20)
            assert left == right
            if not left:
                break
    assert s3.head_object(Bucket=BUCKET, Key="big")["ETag"].strip('"').endswith(f"-{-(-MIB // 8)}")
    first = s3.get_object(Bucket=BUCKET, Key="big", PartNumber=1)
    assert first["ContentLength"] == 8 << 20 and first["PartsCount"] == -(-MIB // 8)


def urls():
    url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "signed"}, ExpiresIn=60)
    request = urllib.request.Request(url, data=b"by url", method="PUT")
    assert urllib.request.urlopen(request).status == 200
    url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "signed"}, ExpiresIn=60)
    assert urllib.request.urlopen(url).read() == b"by url"
    form = s3.generate_presigned_post(BUCKET, "form/${filename}", Conditions=[["content-length-range", 1, 100]])
    assert post(form, b"by form") == 204
    assert s3.get_object(Bucket=BUCKET, Key="form/name.txt")["Body"].read() == b"by form"
    assert post(form, b"x" * 101) == 400
    form["fields"]["x-amz-signature"] = "0" * 64
    assert post(form, b"forged") == 403


def post(form, content):
    boundary = "----boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form["fields"].items()
    ]
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="name.txt"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    try:
        return urllib.request.urlopen(urllib.request.Request(form["url"], data=body, headers=kind)).status
    except urllib.error.HTTPError as error:
        return error.code


def listings():
    keys = [f"list/{number:04}" for number in range(1050 if MIB > 64 else 60)]
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="list/", PaginationConfig={"PageSize": 17})
    assert [item["Key"] for page in pages for item in page.get("Contents", [])] == keys
    top = s3.list_objects_v2(Bucket=BUCKET, Delimiter="/")
    assert {"Prefix": "list/"} in top["CommonPrefixes"]
    for start in range(0, len(keys), 1000):
        named = [{"Key": key} for key in keys[start : start + 1000]]
        assert len(s3.delete_objects(Bucket=BUCKET, Delete={"Objects": named})["Deleted"]) == len(named)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix="list/")


for check in [objects, conditions, transfers, urls, listings]:
    check()
    print(check.__name__, "done")
