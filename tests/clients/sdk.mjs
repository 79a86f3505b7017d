// What programs written with the AWS SDK for JavaScript do, with its default checksums.
import assert from "node:assert";
import { createHash, randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { Readable } from "node:stream";

const [modules, endpoint, bucket, mib] = process.argv.slice(2);
const load = createRequire(modules + "/");
const {
  S3Client, PutObjectCommand, GetObjectCommand, HeadObjectCommand, DeleteObjectCommand, DeleteObjectsCommand,
  CopyObjectCommand, ListObjectsV2Command,
} = load("@aws-sdk/client-s3");
const { Upload } = load("@aws-sdk/lib-storage");
const { getSignedUrl } = load("@aws-sdk/s3-request-presigner");
const s3 = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true });
const send = (Command, input) => s3.send(new Command({ Bucket: bucket, ...input }));

const body = randomBytes(300_000);
const put = await send(PutObjectCommand, { Key: "a b/ü", Body: body, Metadata: { m: "1" } });
assert.equal(put.ETag, `"${createHash("md5").update(body).digest("hex")}"`);
assert.ok(put.ChecksumCRC32);
const got = await send(GetObjectCommand, { Key: "a b/ü" });
assert.ok(Buffer.from(await got.Body.transformToByteArray()).equals(body));
assert.deepEqual(got.Metadata, { m: "1" });

// A body without a known length goes in aws-chunks with a trailing checksum.
const stream = Readable.from([body.subarray(0, 1000), body.subarray(1000)]);
await send(PutObjectCommand, { Key: "stream", Body: stream, ContentLength: body.length });
const back = await send(GetObjectCommand, { Key: "stream", ChecksumMode: "ENABLED" });
assert.ok(Buffer.from(await back.Body.transformToByteArray()).equals(body));

const big = randomBytes(Number(mib) << 20);
const upload = new Upload({ client: s3, params: { Bucket: bucket, Key: "big", Body: big }, partSize: 8 << 20 });
await upload.done();
const part = await send(GetObjectCommand, { Key: "big", Range: `bytes=${(8 << 20) - 5}-${(8 << 20) + 4}` });
const middle = Buffer.from(await part.Body.transformToByteArray());
assert.ok(middle.equals(big.subarray((8 << 20) - 5, (8 << 20) + 5)));

await send(CopyObjectCommand, { Key: "copy", CopySource: `${bucket}/${encodeURIComponent("a b/ü")}` });
assert.equal((await send(HeadObjectCommand, { Key: "copy" })).ContentLength, body.length);
const url = await getSignedUrl(s3, new GetObjectCommand({ Bucket: bucket, Key: "copy" }), { expiresIn: 60 });
assert.ok(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(body));
await assert.rejects(send(PutObjectCommand, { Key: "copy", Body: "x", IfNoneMatch: "*" }), { name: "PreconditionFailed" });
await assert.rejects(send(GetObjectCommand, { Key: "none" }), { name: "NoSuchKey" });

const listed = await send(ListObjectsV2Command, {});
assert.deepEqual(listed.Contents.map((item) => item.Key), ["a b/ü", "big", "copy", "stream"]);
const gone = await send(DeleteObjectsCommand, { Delete: { Objects: [{ Key: "a b/ü" }, { Key: "big" }] } });
assert.equal(gone.Deleted.length, 2);
await send(DeleteObjectCommand, { Key: "copy" });
assert.equal((await send(ListObjectsV2Command, {})).KeyCount, 1);
console.log("done");
