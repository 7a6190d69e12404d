import { createPublicClient, type Hex, http, type PublicClient } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readChannel, readChannels } from "../../src/escrow/reads.ts";
import { RpcProxy } from "../support/rpcProxy.ts";
import { createPayeeStage, type PayeeStage } from "./payeeStage.ts";

let stage: PayeeStage;
let proxy: RpcProxy;
/** Without a `chain`, as every client of ours. */
let client: PublicClient;
let opened: readonly Hex[];

beforeAll(async () => {
	stage = await createPayeeStage();
	proxy = await RpcProxy.start(stage.chain.url);
	client = createPublicClient({ transport: http(proxy.url, { retryCount: 0 }), cacheTime: 0 });
	const payee = await stage.payee();
	opened = [await stage.open(payee), await stage.open(payee), await stage.open(payee)];
});
afterAll(async () => {
	await proxy?.stop();
	await stage?.chain.stop();
});

const unknown = (index: number): Hex => `0x${(0xdead0000 + index).toString(16).padStart(64, "0")}`;

/** 230 ids, ours among the first, in a full call and in the last one. */
function manyIds(): readonly Hex[] {
	const ids = Array.from({ length: 230 }, (_, index) => unknown(index));
	for (const [index, at] of [7, 150, 229].entries()) ids[at] = opened[index] as Hex;
	return ids;
}

describe("readChannels", () => {
	it("reads what readChannel reads, and leaves out what the escrow has no record of", async () => {
		const channels = await readChannels(client, stage.escrow, manyIds());
		expect([...channels.keys()]).toEqual(opened);
		for (const id of opened) expect(channels.get(id)).toEqual(await readChannel(client, stage.escrow, id));
	});

	it("asks once for each fifty, and not at all for none", async () => {
		const before = proxy.calls("eth_call");
		await readChannels(client, stage.escrow, manyIds());
		expect(proxy.calls("eth_call") - before).toBe(5);
		expect(await readChannels(client, stage.escrow, [])).toEqual(new Map());
		expect(proxy.calls("eth_call") - before).toBe(5);
	});

	it("reads as of the block that is given", async () => {
		const number = await client.getBlockNumber();
		const later = await stage.open(await stage.payee());
		expect((await readChannels(client, stage.escrow, [later], number)).size).toBe(0);
		expect((await readChannels(client, stage.escrow, [later], number + 1n)).size).toBe(1);
	});

	it("fails, and does not say that there are no channels, where there is no escrow", async () => {
		await expect(readChannels(client, stage.chain.account(8).address, opened)).rejects.toThrow();
	});

	it("fails as a whole when the node fails at the second fifty", async () => {
		let calls = 0;
		proxy.fails = (method) => method === "eth_call" && ++calls === 2;
		await expect(readChannels(client, stage.escrow, manyIds())).rejects.toThrow();
		proxy.up();
	});
});
