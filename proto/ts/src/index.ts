// The messages that Tenure transactions carry, ready for CosmJS:
//
//   const registry = new Registry([...defaultRegistryTypes, ...tenureTypes]);
//   const client = await SigningStargateClient.connectWithSigner(rpc, wallet, { registry });
//   await client.signAndBroadcast(me, [{ typeUrl: MsgPostBid.$type … }], "auto");
import * as market from "../gen/tenure/market/v1/tx.js";
import * as provider from "../gen/tenure/provider/v1/tx.js";

export { market, provider };
export * as base from "../gen/tenure/base/v1/base.js";
export * as escrow from "../gen/tenure/escrow/v1/escrow.js";

/** What CosmJS's registry needs of a message type; ts-proto makes it. */
export type MessageType = typeof market.MsgPostBid | typeof provider.MsgRegister;

/** Type URL and type of every message that a Tenure transaction may carry, beyond those of the Cosmos SDK. */
export const tenureTypes: ReadonlyArray<[string, MessageType]> = [market, provider]
  .flatMap((file) => Object.values(file) as MessageType[])
  .filter((type) => /\.Msg\w*$/.test(type.$type) && !type.$type.endsWith("Response"))
  .map((type) => [`/${type.$type}`, type]);
