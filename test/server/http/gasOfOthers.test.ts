import type { Address, Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { approveCall } from "../../../src/escrow/calls.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { chargeByPermit2, mintOf, rpc, SOON } from "../../support/chargeDrafts.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { openByPermit2 } from "../../support/sessionDrafts.ts";
import { createWorld, DEPOSIT, type Draft, FUNDS, type PaidServer, PRICE, type World } from "../../support/world.ts";

let world: World;
let server: PaidServer;

beforeAll(async () => {
	world = await createWorld();
	server = await world.serve();
});
afterAll(() => world.stop());

/**
 * A contract wallet that accepts every signature: at once when it is asked by a call that nobody pays for, and after `gas` has
 * been burnt when a contract asks, as Permit2 does in a transaction.
 */
async function wastefulWallet(gas: number): Promise<Address> {
	const limit = gas.toString(16).padStart(8, "0");
	const accepted = `1626ba7e${"0".repeat(56)}`;
	const code: Hex = `0x33156013575a5b5a810363${limit}116006575b7f${accepted}60005260206000f3`;
	const address = privateKeyToAccount(generatePrivateKey()).address.toLowerCase() as Address;
	const { client } = world.chain;
	await rpc(client, "anvil_setCode", [address, code]);
	await rpc(client, "anvil_setBalance", [address, "0x8ac7230489e80000"]);
	await mintOf(world, world.token, address, FUNDS);
	await rpc(client, "anvil_impersonateAccount", [address]);
	const { to, data } = approveCall(world.token, CANONICAL_PERMIT2, FUNDS);
	await rpc(client, "eth_sendTransaction", [{ from: address, to, data, gas: "0x30d40" }]);
	return address;
}

async function payBy(address: Address) {
	const account = privateKeyToAccount(generatePrivateKey());
	return chargeByPermit2(world, { account, address }, await server.challenge("/charge"));
}

describe("gas that others make us spend", () => {
	it("is bounded: a wallet whose signature takes more to check than maxTransactionGas is refused before any", async () => {
		const address = await wastefulWallet(20_000_000);
		const before = await world.chain.client.getBalance({ address: server.payee });
		const draft = await payBy(address);
		expectRefusal(await unchanged(server, [], () => server.pay("/charge", draft)), "verification-failed");
		expect(await world.chain.client.getBalance({ address: server.payee })).toBe(before);
		expect(await world.balance(address)).toBe(FUNDS);
	});

	it("is spent where a wallet needs what wallets need", async () => {
		const address = await wastefulWallet(500_000);
		expectPaid(await server.pay("/charge", await payBy(address)));
		expect(await world.balance(server.payee)).toBe(PRICE);
	});

	/** Sends all at once while nothing is mined, mines, and resolves to the answers and to how many transactions we paid for. */
	async function atOnce(path: string, drafts: readonly Draft[]) {
		const { client } = world.chain;
		const nonce = await client.getTransactionCount({ address: server.payee });
		await rpc(client, "evm_setAutomine", [false]);
		try {
			const answering = drafts.map((draft) => server.pay(path, draft));
			// All but one are refused without waiting for a block.
			const refused = new Set<number>();
			for (const [at, answer] of answering.entries())
				void answer.then(({ status }) => status !== 200 && refused.add(at)).catch(() => undefined);
			await expect.poll(() => refused.size, SOON).toBe(drafts.length - 1);
			await rpc(client, "evm_setAutomine", [true]);
			await rpc(client, "evm_mine");
			const answers = await Promise.all(answering);
			return { answers, sent: (await client.getTransactionCount({ address: server.payee })) - nonce };
		} finally {
			await rpc(client, "evm_setAutomine", [true]);
		}
	}

	const many = Array.from({ length: 6 }, (_, n) => n);

	it("is spent once on tokens that are signed away many times at once, by charges", async () => {
		const payer = await world.payer({ funds: PRICE });
		const drafts = await Promise.all(
			many.map(async () => payer.charge(await server.challenge("/charge"), server.payee, PRICE)),
		);
		const { answers, sent } = await atOnce("/charge", drafts);
		expect(sent).toBe(1);
		for (const answer of answers) {
			if (answer.status === 200) continue;
			expectRefusal(answer, "verification-failed");
			expect(answer.header("retry-after")).toMatch(/^[1-9]\d*$/);
		}
		const [again] = drafts.filter((_, at) => answers[at]?.status !== 200);
		if (again !== undefined) expectRefusal(await server.pay("/charge", again), "verification-failed");
	});

	it("is spent once on tokens that are signed away many times at once, by opens", async () => {
		const payer = await world.payer({ funds: DEPOSIT });
		const open = async () =>
			payer.open(await server.challenge("/session"), payer.channel(server.payee), { deposit: DEPOSIT, amount: PRICE });
		const drafts = await Promise.all(many.map(open));
		const { answers, sent } = await atOnce("/session", drafts);
		expect(sent).toBe(1);
		expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
		for (const answer of answers) if (answer.status !== 200) expectRefusal(answer, "conflict");
	});

	it("is spent once on an allowance of Permit2 that is signed away many times at once", async () => {
		const payer = await world.payer({ gas: true });
		await payer.sendBlind(approveCall(world.token, CANONICAL_PERMIT2, PRICE));
		const drafts = await Promise.all(
			many.map(async () => chargeByPermit2(world, payer, await server.challenge("/charge"))),
		);
		const { answers, sent } = await atOnce("/charge", drafts);
		expect(sent).toBe(1);
		expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
	});

	it("is spent once on a nonce of Permit2 that is signed for many channels at once", async () => {
		const payer = await world.payer({ gas: true });
		await payer.sendBlind(approveCall(world.token, CANONICAL_PERMIT2, FUNDS));
		const open = async () =>
			openByPermit2(payer, await server.challenge("/session"), payer.channel(server.payee), {
				deposit: DEPOSIT,
				amount: PRICE,
				permit: { nonce: 7n },
			});
		const { answers, sent } = await atOnce("/session", await Promise.all(many.map(open)));
		expect(sent).toBe(1);
		expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
	});

	it("is spent on all of them where the tokens are enough", async () => {
		const payer = await world.payer({ funds: PRICE * 6n });
		const drafts = await Promise.all(
			many.map(async () => payer.charge(await server.challenge("/charge"), server.payee, PRICE)),
		);
		const { client } = world.chain;
		await rpc(client, "evm_setAutomine", [false]);
		try {
			const answering = drafts.map((draft) => server.pay("/charge", draft));
			const pooled = async () => {
				const of = (blockTag: "pending" | "latest") => client.getTransactionCount({ address: server.payee, blockTag });
				return (await of("pending")) - (await of("latest"));
			};
			await expect.poll(pooled, SOON).toBe(many.length);
			await rpc(client, "evm_setAutomine", [true]);
			await rpc(client, "evm_mine");
			for (const answer of await Promise.all(answering)) expectPaid(answer);
		} finally {
			await rpc(client, "evm_setAutomine", [true]);
		}
	});
});
