// Makes calls of a published JavaScript client as told on stdin, one JSON line each: see drive.py.
// `node drive.mjs together-ai|openai`, in a folder whose node_modules holds the client.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const Client = require(process.argv[2]).default;
const client = new Client();

async function call(order) {
  const names = order.path.split(".");
  const last = names.pop();
  const owner = names.reduce((at, name) => at[name], client);
  const value = await owner[last](...order.args);
  if (value && value[Symbol.asyncIterator] && !value.data) {
    const chunks = [];
    for await (const chunk of value) chunks.push(chunk);
    return chunks;
  }
  // A page holds its client, too.
  return value && value.getNextPage ? { data: value.data } : value;
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer;
  try {
    answer = { value: (await call(JSON.parse(line))) ?? null };
  } catch (error) {
    answer = { refused: { type: error.constructor.name, status: error.status ?? null, message: error.message } };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
