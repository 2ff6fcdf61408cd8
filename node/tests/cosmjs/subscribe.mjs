// CosmJS's websocket client, unchanged, against the RPC of a running node, on either engine.
//
//   node subscribe.mjs <host:port> [transaction in base64]     exit code 1 if anything failed
//
// The transaction, if given, is broadcast and must arrive through the subscription.
import assert from "node:assert/strict";
import { fromBase64, toHex } from "@cosmjs/encoding";
import { Comet38Client } from "@cosmjs/tendermint-rpc";

const [address, transaction] = process.argv.slice(2);
let passed = 0;
let failed = 0;
async function step(name, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL  ${name}: ${error.stack ?? error}`);
  }
}

/** The first `count` values of a stream; rejects after 15 s. */
function take(stream, count) {
  return new Promise((resolve, reject) => {
    const values = [];
    const timer = setTimeout(() => reject(new Error(`${values.length} of ${count} came`)), 15_000);
    const subscription = stream.subscribe({
      next: (value) => {
        values.push(value);
        if (values.length === count) {
          clearTimeout(timer);
          subscription.unsubscribe();
          resolve(values);
        }
      },
      error: (error) => {
        clearTimeout(timer);
        reject(error);
      },
      complete: () => reject(new Error("the stream ended")),
    });
  });
}

const client = await Comet38Client.connect(`ws://${address}`);
await step("calls are answered over the websocket", async () => {
  const status = await client.status();
  assert.match(status.nodeInfo.version, /^0\.38\./);
  assert.equal((await client.block(status.syncInfo.latestBlockHeight)).block.header.height, status.syncInfo.latestBlockHeight);
});
await step("new blocks come in order, each once", async () => {
  const heights = (await take(client.subscribeNewBlock(), 3)).map((block) => block.header.height);
  assert.deepEqual(heights, [heights[0], heights[0] + 1, heights[0] + 2]);
});
await step("new headers have the hashes of their blocks", async () => {
  const [header] = await take(client.subscribeNewBlockHeader(), 1);
  const { block } = await client.block(header.height);
  assert.equal(toHex(header.appHash), toHex(block.header.appHash));
  assert.equal(header.time.toISOString(), block.header.time.toISOString());
});
if (transaction) {
  await step("a transaction arrives with its result", async () => {
    const tx = fromBase64(transaction);
    const arrival = take(client.subscribeTx(), 1);
    // The subscription's answer and the broadcast's travel the same socket, in order.
    const sent = await client.broadcastTxSync({ tx });
    assert.equal(sent.code, 0, sent.log);
    const [event] = await arrival;
    assert.equal(toHex(event.hash), toHex(sent.hash));
    assert.equal(event.result.code, 0);
    assert.ok(event.result.events.length > 0);
    const found = await client.tx({ hash: event.hash });
    assert.equal(found.height, event.height);
    // An event leaves out empty texts, an answer does not: CometBFT's way.
    const told = ({ code, gasUsed, gasWanted, events }) => ({ code, gasUsed, gasWanted, events });
    assert.deepEqual(told(found.result), told(event.result));
  });
}
client.disconnect();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
