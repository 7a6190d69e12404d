/** In which order vouchers of one channel that are wanted at the same time are kept and signed. */
import { setImmediate } from "node:timers/promises";
import type { Hex } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { afterEach, describe, expect, it } from "vitest";
import { openPayer, PRICE } from "../../bench/clientSign/payer.ts";
import { signsDigests } from "../../src/client/digestSigner.ts";
import type { Operations } from "../../src/client/store/kv.ts";
import { MemoryKv } from "../../src/client/store/memoryKv.ts";
import { PayerBook } from "../../src/client/store/payerBook.ts";
import type { PayerStore } from "../../src/client/store/store.ts";
import { parseCredential } from "../../src/protocol/index.ts";

const ADDRESS: Hex = `0x${"ab".repeat(20)}`;
const ID: Hex = `0x${"5a".repeat(32)}`;
const KEY: Hex = `0x${"07".repeat(32)}`;
const place = {
	...{ rpcUrl: "http://127.0.0.1:1", chainId: 31_337, token: ADDRESS, escrow: ADDRESS, channels: [] },
	...{ payeeKey: KEY, secret: "thirty-two bytes and a few more than those" },
};

let log: string[] = [];
afterEach(() => {
	log = [];
});

/** A disk that takes its time, and says when it begins and ends. */
class SlowKv extends MemoryKv {
	fault: Error | undefined;

	override async write(operations: Operations): Promise<void> {
		log.push("writing");
		for (let turns = 0; turns < 3; turns++) await setImmediate();
		if (this.fault !== undefined) throw this.fault;
		await super.write(operations);
		log.push("written");
	}
}

async function payerOver(store: PayerStore) {
	const account = privateKeyToAccount(KEY);
	const accountOf = () =>
		signsDigests(account, {
			sign: async () => {
				log.push("signed");
				return `0x${"cd".repeat(65)}` as const;
			},
		});
	const open = { channelId: ID, payer: ADDRESS, signerKey: KEY, deposit: 10n ** 9n };
	const payer = await openPayer({ place, open, store, accountOf });
	log = [];
	return payer;
}

async function amounts(headers: readonly Promise<string>[]): Promise<readonly unknown[]> {
	return (await Promise.all(headers)).map((header) => parseCredential(header).payload.cumulativeAmount);
}

describe("vouchers that are wanted at the same moment", () => {
	it("are signed when their record is on disk, and while the next one is on its way there (I11)", async () => {
		const store = new PayerBook(new SlowKv()).as("a");
		const payer = await payerOver(store);
		const headers = [payer.header(), payer.header(), payer.header()];
		expect(await amounts(headers)).toEqual([PRICE, 2n * PRICE, 3n * PRICE].map(String));
		expect(log).toEqual(["writing", "written", "writing", "signed", "written", "signed", "signed"]);
		expect((await store.list())[0]?.record.state.signed).toBe(String(3n * PRICE));
	});

	it("are signed that were written, and no others, where the next write fails (I11)", async () => {
		const kv = new SlowKv();
		const payer = await payerOver(new PayerBook(kv).as("a"));
		const headers = [payer.header(), payer.header(), payer.header()].map((header) =>
			header.then(
				(text) => parseCredential(text).payload.cumulativeAmount,
				(error: { code?: string }) => error.code,
			),
		);
		await headers[0];
		kv.fault = new Error("the disk is full");
		const [first, ...others] = await Promise.all(headers);
		expect(first).toBe(String(PRICE));
		for (const other of others) expect(other).toMatch(/^(PAYER_STORE|HOLDER_LOST)$/);
		expect(log.filter((what) => what === "signed")).toHaveLength(1);
	});
});
