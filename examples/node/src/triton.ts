// Triton's gRPC service, from the descriptors that ../descriptors.py writes: no proto files are copied.
import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";
import { loadFileDescriptorSetFromBuffer } from "@grpc/proto-loader";

export const TASKS = ["xray", "mri"] as const;
export type Task = (typeof TASKS)[number];

export interface Classification {
  label: string;
  confidence: number;
  probabilities: Record<string, number>;
  threshold: number | null;
}

interface InferResponse {
  raw_output_contents: Buffer[];
}

// protobufjs reads the maps of a descriptor set as what they are on the wire: lists of entries.
interface Entry<Value> {
  key: string;
  value: Value;
}

interface ConfigResponse {
  config: { parameters: Entry<{ string_value: string }>[] };
}

type Call<Response> = (
  request: object,
  options: grpc.CallOptions,
  done: (error: grpc.ServiceError | null, response: Response) => void,
) => grpc.ClientUnaryCall;

interface Stub extends grpc.Client {
  ModelInfer: Call<InferResponse>;
  ModelConfig: Call<ConfigResponse>;
}

const DEADLINE_MS = 10_000;
// The one finding that a threshold decides on; the other task answers with its most probable label.
const POSITIVE: Partial<Record<Task, string>> = { xray: "PNEUMONIA" };

export class Triton {
  readonly #stub: Stub;
  readonly #thresholds = new Map<Task, number>();

  constructor(url: string, descriptors: string) {
    const loaded = grpc.loadPackageDefinition(
      loadFileDescriptorSetFromBuffer(readFileSync(descriptors), { keepCase: true, longs: Number }),
    ) as unknown as { inference: { GRPCInferenceService: new (...args: unknown[]) => Stub } };
    this.#stub = new loaded.inference.GRPCInferenceService(url, grpc.credentials.createInsecure(), {
      "grpc.max_reconnect_backoff_ms": 2_000,
    });
  }

  // The file goes as it is: the server decodes, resizes and normalises it, and names the labels.
  async classify(task: Task, file: Buffer): Promise<Classification> {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(file.length);
    const response = await this.#call(this.#stub.ModelInfer, {
      model_name: `${task}_classifier`,
      inputs: [{ name: "encoded_image", datatype: "BYTES", shape: [1, 1] }],
      outputs: [{ name: "probabilities", parameters: [{ key: "classification", value: { int64_param: 10 } }] }],
      raw_input_contents: [Buffer.concat([length, file])],
    });
    const probabilities = readLabels(response.raw_output_contents[0] ?? Buffer.alloc(0));
    return decide(probabilities, POSITIVE[task], await this.#threshold(task));
  }

  close(): void {
    this.#stub.close();
  }

  // The operating point is released with the model, in its config.
  async #threshold(task: Task): Promise<number | null> {
    if (POSITIVE[task] === undefined) return null;
    const known = this.#thresholds.get(task);
    if (known !== undefined) return known;
    const { config } = await this.#call(this.#stub.ModelConfig, { name: `${task}_densenet121` });
    const entry = config.parameters.find(({ key }) => key === "operating_point");
    const threshold = Number(entry?.value.string_value ?? "0.5");
    this.#thresholds.set(task, threshold);
    return threshold;
  }

  #call<Response>(method: Call<Response>, request: object): Promise<Response> {
    return new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + DEADLINE_MS };
      method.call(this.#stub, request, options, (error, response) => (error ? reject(error) : resolve(response)));
    });
  }
}

// Entries such as "0.97:1:PNEUMONIA", each behind its length in four bytes.
function readLabels(raw: Buffer): Record<string, number> {
  const probabilities: Record<string, number> = {};
  for (let at = 0; at < raw.length; ) {
    const end = at + 4 + raw.readUInt32LE(at);
    const [probability, , label] = raw.toString("utf8", at + 4, end).split(":");
    probabilities[label ?? ""] = Number(probability);
    at = end;
  }
  return probabilities;
}

function decide(
  probabilities: Record<string, number>,
  positive: string | undefined,
  threshold: number | null,
): Classification {
  let ranked = Object.entries(probabilities).sort(([, a], [, b]) => b - a);
  if (positive !== undefined && threshold !== null) {
    const found = (probabilities[positive] ?? 0) >= threshold;
    ranked = ranked.filter(([label]) => (label === positive) === found);
  }
  const [label, confidence] = ranked[0] ?? ["", NaN];
  return { label, confidence, probabilities, threshold };
}
