// POST a picture file to /xray or /mri, and get the classification as JSON.
//   DENSESCAN_URL=localhost:8001 PORT=3000 npm start
//   curl --data-binary @film.png localhost:3000/xray
import { createServer, type IncomingMessage } from "node:http";
import { status, type ServiceError } from "@grpc/grpc-js";
import { TASKS, Triton, type Task } from "./triton.js";

const MAX_BYTES = 64 * 2 ** 20;

// What the caller of this service is told for what Triton said.
const ANSWERS: Partial<Record<status, [number, string]>> = {
  [status.INVALID_ARGUMENT]: [400, "the body is no picture that can be read"],
  [status.UNAVAILABLE]: [503, "overloaded or starting: try again after a pause"],
  [status.DEADLINE_EXCEEDED]: [504, "no answer in time"],
};

class TooLarge extends Error {}

async function body(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    // What is too much is read and dropped, up to a point: leaving the loop cuts the caller off before the answer.
    if (size > 5 * MAX_BYTES) break;
    if (size > MAX_BYTES) parts.length = 0;
    else parts.push(part);
  }
  if (size > MAX_BYTES) throw new TooLarge();
  return Buffer.concat(parts);
}

async function answer(request: IncomingMessage): Promise<[number, object]> {
  const task = request.url?.slice(1) as Task;
  if (!TASKS.includes(task)) return [404, { error: `there is ${TASKS.map((name) => `/${name}`).join(" and ")}` }];
  if (request.method !== "POST") return [405, { error: "POST the bytes of a picture file" }];
  try {
    return [200, await triton.classify(task, await body(request))];
  } catch (error) {
    if (error instanceof TooLarge) return [413, { error: `more than ${MAX_BYTES} bytes` }];
    const known = ANSWERS[(error as ServiceError).code];
    if (known === undefined) process.stderr.write(`${error}\n`);
    const [code, text] = known ?? [502, "the classifier failed"];
    return [code, { error: text }];
  }
}

const triton = new Triton(
  process.env["DENSESCAN_URL"] ?? "localhost:8001",
  process.env["DESCRIPTORS"] ?? "triton.binpb",
);
const server = createServer((request, response) => {
  void answer(request).then(([code, result]) => {
    const headers: Record<string, string> = { "content-type": "application/json" };
    if (code === 503) headers["retry-after"] = "1";
    response.writeHead(code, headers).end(JSON.stringify(result));
  });
});
server.listen(Number(process.env["PORT"] ?? 3000), "127.0.0.1", () => {
  const address = server.address();
  process.stdout.write(`listening on ${typeof address === "object" ? address?.port : address}\n`);
});
process.on("SIGTERM", () => server.close(() => triton.close()));
