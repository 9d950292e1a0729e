import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { DataType, InstancesSchema } from "./index.js";
import type { Instances, TensorSpec } from "./index.js";

const FLOAT32_BYTES = 4;

/** Where instances come from: a file of raw little-endian float32, or one built-in instance. */
export type InputOptions = { input: string; fill: string };

/** Fills the model's input: from the file, or with one built-in instance. */
export function makeInstances(input: TensorSpec, options: InputOptions): Instances {
  if (input.dataType !== DataType.FLOAT32) {
    throw new Error(`the model's input "${input.name}" is ${DataType[input.dataType]}; this program sends FLOAT32`);
  }
  const shape = instanceShape(input);
  const values = Number(shape.reduce((product, length) => product * length, 1n));
  const raw = instanceBytes(values, options);
  const rows = BigInt(raw.length / (values * FLOAT32_BYTES));
  return create(InstancesSchema, {
    source: {
      case: "inline",
      value: {
        inputs: [
          {
            name: input.name,
            tensor: {
              dataType: DataType.FLOAT32,
              shape: [rows, ...shape],
              content: { case: "raw", value: raw },
            },
          },
        ],
      },
    },
  });
}

/** The shape of one instance: the input's without its batch axis, free axes as 1. */
function instanceShape(input: TensorSpec): bigint[] {
  if (input.shape.length === 0) {
    throw new Error(`the model's input "${input.name}" has no batch axis`);
  }
  return input.shape.slice(1).map((length, axis) => {
    if (length === 0n) {
      throw new Error(`axis ${axis + 1} of the model's input "${input.name}" has length 0`);
    }
    return length < 0n ? 1n : length;
  });
}

function instanceBytes(values: number, options: InputOptions): Uint8Array {
  if (options.input === "") {
    return options.fill === "random" ? randomBytes(values) : new Uint8Array(values * FLOAT32_BYTES);
  }
  const raw = new Uint8Array(readFileSync(options.input));
  if (raw.length === 0) {
    throw new Error("the input file is empty");
  }
  if (raw.length % (values * FLOAT32_BYTES) !== 0) {
    throw new Error(
      `the input file has ${raw.length} bytes; an instance of this model has ${values} float32 values, ` +
        `so it must be a multiple of ${values * FLOAT32_BYTES}`,
    );
  }
  return raw;
}

/**
 * Numbers from 0 up to 1: mulberry32 from seed 1, so that the Go program, which has the same few
 * lines, asks about the same instance.
 */
export function randomBytes(values: number): Uint8Array {
  const raw = new Uint8Array(values * FLOAT32_BYTES);
  const view = new DataView(raw.buffer);
  let state = 1;
  for (let offset = 0; offset < raw.length; offset += FLOAT32_BYTES) {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    // A Float32Array would take the machine's byte order; the wire's is always little-endian.
    view.setFloat32(offset, ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32, true);
  }
  return raw;
}
