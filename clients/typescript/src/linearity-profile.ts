#!/usr/bin/env node
/**
 * Shows how linear a served model is at each of its layers.
 *
 * It lists the models of a Sidelight server, describes the chosen one, asks for its linearity at the
 * output and at every layer, and prints a table. It is written against the generated code alone, as an
 * example of the whole conversation: discovery, tensors, request, errors.
 */
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import type { CallOptions, Client, Transport } from "@connectrpc/connect";
import { Http2SessionManager, createGrpcTransport } from "@connectrpc/connect-node";
import { describeFailure } from "./failure.js";
import { makeInstances } from "./input.js";
import {
  ExplainLinearityRequestSchema,
  ExplainService,
  ModelFormat,
  ModelSelectorSchema,
  ModelService,
  ModelVersionState,
  ZeroReason,
} from "./index.js";
import type { ExplainLinearityResponse, LayerLinearity } from "./index.js";

const EXIT_OK = 0;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

const USAGE = `usage: linearity-profile [options]
  --address HOST:PORT  the Sidelight server (default 127.0.0.1:8461)
  --model NAME         the model; without it, the models are only listed
  --version NUMBER     its version (default: the highest that is available)
  --input FILE         raw little-endian float32 instances
  --fill HOW           instance to use without --input: random (default) or zeros
  --samples NUMBER     samples around each instance (default 20)
  --seed NUMBER        seed of the samples (default 0)
  --timeout SECONDS    deadline for everything (default 60)`;

type Options = {
  address: string;
  model: string;
  version: bigint;
  input: string;
  fill: string;
  samples: number;
  seed: bigint;
  timeoutSeconds: number;
};

/** The options of a call that is made now. */
type Deadline = () => CallOptions;

/** Where the program writes a line. */
export type Writer = (line: string) => void;

/** The program: answers with the exit code. */
export async function run(args: string[], stdout: Writer, stderr: Writer): Promise<number> {
  let options: Options | undefined;
  try {
    options = parseOptions(args);
  } catch (error) {
    stderr(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    return EXIT_USAGE;
  }
  if (options === undefined) {
    stdout(USAGE);
    return EXIT_OK;
  }
  const baseUrl = `http://${options.address}`;
  const sessionManager = new Http2SessionManager(baseUrl);
  const transport = createGrpcTransport({ baseUrl, sessionManager });
  try {
    return await profile(transport, options, deadlineIn(options.timeoutSeconds), stdout, stderr);
  } finally {
    // It would keep the connection for 15 idle minutes, and a server that waits for it as long.
    sessionManager.abort();
  }
}

function parseOptions(args: string[]): Options | undefined {
  const { values } = parseArgs({
    args,
    options: {
      address: { type: "string", default: "127.0.0.1:8461" },
      model: { type: "string", default: "" },
      version: { type: "string", default: "0" },
      input: { type: "string", default: "" },
      fill: { type: "string", default: "random" },
      samples: { type: "string", default: "20" },
      seed: { type: "string", default: "0" },
      timeout: { type: "string", default: "60" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    return undefined;
  }
  if (values.fill !== "random" && values.fill !== "zeros") {
    throw new Error(`--fill is "${values.fill}"; it must be random or zeros`);
  }
  return {
    address: values.address,
    model: values.model,
    version: BigInt(wholeNumber("version", values.version)),
    input: values.input,
    fill: values.fill,
    samples: Number(wholeNumber("samples", values.samples)),
    seed: BigInt(wholeNumber("seed", values.seed)),
    timeoutSeconds: Number(wholeNumber("timeout", values.timeout)),
  };
}

function wholeNumber(name: string, text: string): string {
  if (!/^\d+$/.test(text)) {
    throw new Error(`--${name} is "${text}"; it must be a whole number`);
  }
  return text;
}

/**
 * One deadline for the whole conversation: what one call uses of the time, the next does not have. It is
 * sent along as a timeout, so that the server stops too; an AbortSignal would not tell it beforehand.
 */
function deadlineIn(seconds: number): Deadline {
  const end = performance.now() + seconds * 1000;
  // 0 would mean no timeout.
  return () => ({ timeoutMs: Math.max(1, Math.ceil(end - performance.now())) });
}

/** Holds the conversation with the server, prints what came of it, and answers with the exit code. */
async function profile(
  transport: Transport,
  options: Options,
  deadline: Deadline,
  stdout: Writer,
  stderr: Writer,
): Promise<number> {
  let step = "listing the models";
  try {
    const models = createClient(ModelService, transport);
    stdout(await modelTable(models, deadline));
    if (options.model === "") {
      return EXIT_OK;
    }

    step = "describing the model";
    const selector = create(ModelSelectorSchema, { name: options.model });
    if (options.version !== 0n) {
      selector.choice = { case: "version", value: options.version };
    }
    const { model } = await models.getModel({ model: selector }, deadline());
    step = "";
    const [input, ...others] = model?.inputs ?? [];
    if (input === undefined || others.length > 0) {
      throw new Error(`the model has ${model?.inputs.length ?? 0} inputs; linearity needs a model with one`);
    }
    const instances = makeInstances(input, options);
    // What was described is what to explain, even if something newer comes up in between.
    selector.choice = { case: "version", value: model?.version ?? 0n };
    selector.digest = model?.status?.digest ?? "";

    step = "explaining linearity";
    const request = create(ExplainLinearityRequestSchema, {
      model: selector,
      instances,
      parameters: {
        sampling: {
          case: "grid",
          value: { featureRange: { source: { case: "uniform", value: { minimum: 0, maximum: 1 } } } },
        },
        samples: options.samples,
        layers: { all: true },
        draws: { seed: options.seed },
      },
    });
    const explained = await createClient(ExplainService, transport).explainLinearity(request, deadline());
    stdout(profileTable(explained));
    return EXIT_OK;
  } catch (error) {
    stderr(describeFailure(step, error));
    return EXIT_FAILED;
  }
}

async function modelTable(models: Client<typeof ModelService>, deadline: Deadline): Promise<string> {
  const rows = [["MODEL", "VERSION", "STATE", "FORMAT"]];
  let pageToken = "";
  do {
    const page = await models.listModels({ pageToken }, deadline());
    for (const model of page.models) {
      for (const version of model.versions) {
        const state = ModelVersionState[version.state] ?? String(version.state);
        const format = ModelFormat[version.format] ?? String(version.format);
        rows.push([model.name, String(version.version), state, format]);
      }
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return aligned(rows);
}

function profileTable(explained: ExplainLinearityResponse): string {
  const provenance = explained.provenance;
  const rows = [["LAYER", "LINEARITY", "DEVIATION", "NOTE"]];
  for (const layer of explained.layers) {
    rows.push([layer.layer, sixDigits(layer.mean), sixDigits(layer.standardDeviation), note(layer)]);
  }
  const lines = [
    `\n${provenance?.model} version ${provenance?.version}, ${provenance?.digest}, ` +
      `${explained.instanceCount} instance(s)`,
    aligned(rows),
  ];
  for (const warning of provenance?.warnings ?? []) {
    lines.push(`warning ${warning.code}: ${warning.message}`);
  }
  return lines.join("\n");
}

/** Six significant digits, without trailing zeros. */
function sixDigits(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** What a reader should know of a row: that it is the output, and why it is 0. */
function note(layer: LayerLinearity): string {
  const notes: string[] = [];
  if (layer.output) {
    notes.push("output");
  }
  if (layer.zeroReason === ZeroReason.AFFINE) {
    notes.push("affine");
  } else if (layer.zeroReason === ZeroReason.BELOW_NOISE_FLOOR) {
    notes.push(`${layer.zeroCount} below the noise floor`);
  }
  return notes.join(", ");
}

function aligned(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()).join("\n");
}

// Only when it was started as a program: the tests import it. npm starts it through a link.
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await run(
    process.argv.slice(2),
    (line) => process.stdout.write(`${line}\n`),
    (line) => process.stderr.write(`${line}\n`),
  );
}
