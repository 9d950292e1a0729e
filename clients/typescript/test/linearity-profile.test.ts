import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { create, equals } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { describeFailure } from "../src/failure.js";
import {
  BadRequestSchema,
  DataType,
  ErrorInfoSchema,
  ExplainLinearityRequestSchema,
  ExplainService,
  ModelFormat,
  ModelService,
  ModelVersionState,
  RetryInfoSchema,
  ZeroReason,
} from "../src/index.js";
import type { ExplainLinearityRequest } from "../src/index.js";
import { randomBytes } from "../src/input.js";
import { run } from "../src/linearity-profile.js";

type Fake = { failure?: ConnectError; received?: ExplainLinearityRequest; timeoutMs?: number | undefined };
type Outcome = { code: number; stdout: string; stderr: string };

/**
 * Runs the program against a gRPC server in this process that serves one model, "digits", with one
 * 2 x 3 input, in two pages of models.
 */
async function runAgainst(context: TestContext, fake: Fake, ...args: string[]): Promise<Outcome> {
  const server = createServer(
    connectNodeAdapter({
      routes: (router) => {
        router.service(ModelService, {
          listModels: ({ pageToken }) => {
            if (pageToken === "") {
              const state = ModelVersionState.AVAILABLE;
              const versions = [{ version: 7n, state, format: ModelFormat.ONNX }];
              return { models: [{ name: "digits", versions }], nextPageToken: "second" };
            }
            const state = ModelVersionState.FAILED;
            const versions = [{ version: 1n, state, format: ModelFormat.SAVED_MODEL }];
            return { models: [{ name: "wines" }, { name: "xrays", versions }] };
          },
          getModel: ({ model }) => ({
            model: {
              name: model?.name ?? "",
              version: 7n,
              status: { version: 7n, digest: "sha256:00" },
              inputs: [{ name: "pixels", dataType: DataType.FLOAT32, shape: [-1n, 2n, 3n] }],
            },
          }),
        });
        router.service(ExplainService, {
          explainLinearity: (request, { timeoutMs }) => {
            fake.received = request;
            fake.timeoutMs = timeoutMs();
            if (fake.failure !== undefined) {
              throw fake.failure;
            }
            return {
              layers: [
                { layer: "probabilities", output: true, mean: 0.125, standardDeviation: 0.5 },
                { layer: "dense_1", zeroReason: ZeroReason.AFFINE, zeroCount: 2n },
              ],
              instanceCount: 2n,
              provenance: { model: "digits", version: 7n, digest: "sha256:00" },
            };
          },
        });
      },
    }),
  );
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  context.after(() => void server.close());
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stdout: string[] = [];
  const stderr: string[] = [];
  const code = await run(
    ["--address", address, ...args],
    (line) => stdout.push(line),
    (line) => stderr.push(line),
  );
  return { code, stdout: stdout.join("\n"), stderr: stderr.join("\n") };
}

function lineOf(output: string, first: string): string {
  const lines = output.split("\n").map((line) => line.trim().split(/\s+/));
  const found = lines.find((fields) => fields[0] === first);
  assert.ok(found !== undefined, `no line begins with "${first}" in:\n${output}`);
  return found.join(" ");
}

function temporaryFile(bytes: Uint8Array): string {
  const path = join(mkdtempSync(join(tmpdir(), "sidelight-")), "instances.bin");
  writeFileSync(path, bytes);
  return path;
}

test("every page of models is listed", async (context) => {
  const fake: Fake = {};
  const { code, stdout, stderr } = await runAgainst(context, fake);
  assert.equal(code, 0, stderr);
  assert.equal(lineOf(stdout, "digits"), "digits 7 AVAILABLE ONNX");
  assert.equal(lineOf(stdout, "xrays"), "xrays 1 FAILED SAVED_MODEL");
  assert.equal(fake.received, undefined);
});

test("the profile prints the output first and why a layer is zero", async (context) => {
  const { code, stdout, stderr } = await runAgainst(context, {}, "--model", "digits");
  assert.equal(code, 0, stderr);
  assert.equal(lineOf(stdout, "probabilities"), "probabilities 0.125 0.5 output");
  assert.equal(lineOf(stdout, "dense_1"), "dense_1 0 0 affine");
});

test("the request asks for all layers on a unit grid at the described version", async (context) => {
  const fake: Fake = {};
  const raw = new Uint8Array(48);
  const view = new DataView(raw.buffer);
  for (let value = 0; value < 12; value++) {
    view.setFloat32(value * 4, value, true);
  }
  const args = ["--model", "digits", "--input", temporaryFile(raw), "--samples", "50", "--seed", "3"];
  const { code, stderr } = await runAgainst(context, fake, ...args);
  assert.equal(code, 0, stderr);
  const tensor = {
    dataType: DataType.FLOAT32,
    shape: [2n, 2n, 3n],
    content: { case: "raw" as const, value: raw },
  };
  const uniform = { case: "uniform" as const, value: { minimum: 0, maximum: 1 } };
  const expected = create(ExplainLinearityRequestSchema, {
    model: { name: "digits", choice: { case: "version", value: 7n }, digest: "sha256:00" },
    instances: { source: { case: "inline", value: { inputs: [{ name: "pixels", tensor }] } } },
    parameters: {
      sampling: { case: "grid", value: { featureRange: { source: uniform } } },
      samples: 50,
      layers: { all: true },
      draws: { seed: 3n },
    },
  });
  assert.ok(fake.received !== undefined && equals(ExplainLinearityRequestSchema, fake.received, expected));
});

test("the server is told the time that is left", async (context) => {
  const fake: Fake = {};
  await runAgainst(context, fake, "--model", "digits", "--timeout", "30");
  assert.ok(fake.timeoutMs !== undefined && fake.timeoutMs > 0 && fake.timeoutMs <= 30_000, String(fake.timeoutMs));
});

// The numbers are those of mulberry32 with seed 1; the Go program is held to the same ones.
test("the random instance is the same in every language", () => {
  const view = new DataView(randomBytes(3).buffer);
  const numbers = [0, 1, 2].map((place) => view.getFloat32(place * 4, true));
  assert.deepEqual(numbers, [0.62707394, 0.0027357212, 0.52744704].map(Math.fround));
});

test("a failure shows reason, fields and retry delay", async (context) => {
  const failure = new ConnectError("the epsilon is too large", Code.InvalidArgument, undefined, [
    { desc: ErrorInfoSchema, value: { reason: "INVALID_FIELD", domain: "sidelight", metadata: { field: "epsilon" } } },
    {
      desc: BadRequestSchema,
      value: { fieldViolations: [{ field: "parameters.grid.epsilon", description: "must be at most 1" }] },
    },
    { desc: RetryInfoSchema, value: { retryDelay: { seconds: 1n, nanos: 500_000_000 } } },
  ]);
  const { code, stderr } = await runAgainst(context, { failure }, "--model", "digits");
  assert.equal(code, 1);
  assert.deepEqual(stderr.split("\n"), [
    "error: explaining linearity: InvalidArgument: the epsilon is too large",
    "reason: INVALID_FIELD (sidelight)",
    "  field: epsilon",
    "field: parameters.grid.epsilon: must be at most 1",
    "retry after: 1.5s",
  ]);
});

test("a file that holds no whole number of instances is refused before the server is asked", async (context) => {
  const fake: Fake = {};
  const args = ["--model", "digits", "--input", temporaryFile(new Uint8Array(36))];
  const { code, stderr } = await runAgainst(context, fake, ...args);
  assert.equal(code, 1);
  assert.match(stderr, /multiple of 24/);
  assert.equal(fake.received, undefined);
});

test("wrong use exits with two", async (context) => {
  for (const args of [["--fill", "ones"], ["stray"], ["--unknown"], ["--samples", "many"]]) {
    assert.equal((await runAgainst(context, {}, ...args)).code, 2, args.join(" "));
  }
});

test("a failure that is not the server's is printed plainly", () => {
  assert.equal(describeFailure("", new Error("the input file is empty")), "error: the input file is empty");
});
