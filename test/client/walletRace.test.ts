/** Two processes of one key that send transactions of their own at the same moment: nothing keeps their nonces apart. */
import type { Address, Hex, LocalAccount } from "viem";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { Wallet } from "../../src/client/wallet.ts";
import { transferCall } from "../../src/escrow/index.ts";
import { createStage, type Stage } from "./stage.ts";

const PAYEE: Address = `0x${"bb".repeat(20)}`;

let stage: Stage;
beforeAll(async () => {
	stage = await createStage();
});
afterEach(() => rpc("evm_setAutomine", [true]));
afterAll(() => stage.stop());

const rpc = (method: string, params: readonly unknown[] = []) =>
	stage.chain.client.request({ method, params } as never) as Promise<unknown>;

/** The wallets of so many processes, whose first transactions are all signed before any of them is broadcast. */
function walletsOf(account: LocalAccount, count: number): readonly Wallet[] {
	const { chainId, client } = stage.chain;
	const { promise: allCame, resolve } = Promise.withResolvers<void>();
	let came = 0;
	const together: LocalAccount = {
		...account,
		signTransaction: async (transaction, options) => {
			if (++came === count) resolve();
			await allCame;
			return account.signTransaction(transaction, options);
		},
	};
	return Array.from({ length: count }, () => new Wallet({ account: together, chainId, client, now: Date.now }));
}

it("all are mined, one after the other, each once, and each is told of before it is broadcast", async () => {
	const account = await stage.payer({ gas: true });
	const wallets = walletsOf(account, 3);
	await rpc("evm_setAutomine", [false]);
	const told: { nonce: number; hash: Hex }[][] = wallets.map(() => []);
	let sending = 0;
	let isOver = false;
	const sends = Promise.allSettled(
		wallets.map((wallet, index) =>
			wallet.send(
				[transferCall(stage.token, PAYEE, BigInt(10 ** index))],
				"charge",
				(sent) => void told[index]?.push(sent),
				async () => void sending++,
			),
		),
	).finally(() => {
		isOver = true;
	});
	while (!isOver) {
		await rpc("evm_mine");
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
	expect((await sends).map((send) => (send.status === "rejected" ? send.reason : send.status))).toEqual(
		wallets.map(() => "fulfilled"),
	);
	expect(await stage.balance(PAYEE)).toBe(111n);
	expect(told.map(([first]) => first?.nonce)).toEqual([0, 0, 0]);
	expect(told.map((all) => all.at(-1)?.nonce).sort()).toEqual([0, 1, 2]);
	// What is counted when it leaves is counted once.
	expect(sending).toBe(3);
}, 120_000);
