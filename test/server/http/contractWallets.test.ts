import type { Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeAll, describe, expect, it } from "vitest";
import { approveCall } from "../../../src/escrow/calls.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	approvePermit2,
	createSmartPayer,
	merged,
	openByPermit2,
	rpc,
	type SmartPayer,
	topUpByAuthorization,
	topUpByPermit2,
} from "../../support/sessionDrafts.ts";
import { MORE } from "../../support/sessionStage.ts";
import { useWorld } from "../../support/useWorld.ts";
import { DEPOSIT, type PaidServer, type Payer, PRICE, type TestChannel } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let owner: Payer;
let smart: SmartPayer;

beforeAll(async () => {
	server = await world.serve();
	owner = await world.payer({ gas: true });
	smart = await createSmartPayer(world, owner);
	await smart.perform([approveCall(world.token, CANONICAL_PERMIT2, 2n ** 256n - 1n)]);
});

const stranger = privateKeyToAccount(generatePrivateKey());
const challenge = () => server.challenge("/session");

async function closed(channel: TestChannel, amount: bigint): Promise<void> {
	const before = await world.balance(server.payee);
	expectPaid(await server.pay("/session", await smart.payer.close(await challenge(), channel, amount)));
	expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: amount });
	expect(await world.balance(server.payee)).toBe(before + amount);
}

describe("a contract wallet that pays", () => {
	it("opens by hash, with the transaction going to another contract (ERC-4337, D12)", async () => {
		const channel = smart.payer.channel(server.payee);
		const hash = await smart.openOnChain(channel, DEPOSIT);
		const { to } = await world.chain.client.getTransaction({ hash });
		expect([channel.escrow, smart.payer.address]).not.toContain(to?.toLowerCase());
		const draft = await smart.payer.openByHash(await challenge(), channel, hash, PRICE);
		expectPaid(await server.pay("/session", draft));
		expect(await server.ledger(channel)).toMatchObject({ payer: smart.payer.address, deposit: DEPOSIT, spent: PRICE });
		await closed(channel, PRICE);
	});

	it("opens by authorization, tops up and closes with its own signatures (ERC-1271)", async () => {
		const channel = smart.payer.channel(server.payee);
		const open = await smart.payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE });
		expectPaid(await server.pay("/session", open));
		expectPaid(await server.pay("/session", await topUpByAuthorization(smart.payer, await challenge(), channel, MORE)));
		expectPaid(await server.pay("/session", await smart.payer.voucher(await challenge(), channel, DEPOSIT + MORE)));
		expect(await world.onChain(channel)).toMatchObject({ deposit: DEPOSIT + MORE });
		await closed(channel, 2n * PRICE);
	});

	it("opens, tops up and merges by Permit2 (ERC-1271)", async () => {
		const channel = smart.payer.channel(server.payee);
		const one = await challenge();
		const open = await openByPermit2(smart.payer, one, channel, { deposit: DEPOSIT });
		expectPaid(await server.pay("/session", merged(await smart.payer.voucher(one, channel, PRICE), open)));
		expectPaid(await server.pay("/session", await topUpByPermit2(smart.payer, one, channel, MORE)));
		expect(await server.ledger(channel)).toMatchObject({ deposit: DEPOSIT + MORE, spent: PRICE });
	});

	it("is refused with a deposit signed by somebody else, before any gas", async () => {
		const channel = smart.payer.channel(server.payee);
		const drafts = [
			await smart.payer.open(await challenge(), channel, { deposit: DEPOSIT, signer: stranger }),
			await openByPermit2(smart.payer, await challenge(), channel, { deposit: DEPOSIT, signer: stranger }),
		];
		for (const draft of drafts)
			expectRefusal(await unchanged(server, [channel], () => server.pay("/session", draft)), "session/signer-mismatch");
	});
});

describe("vouchers", () => {
	it("a voucher of a contract wallet is taken where its isValidSignature takes it, and is a signer mismatch where it does not", async () => {
		const channel = await server.open(smart.payer);
		for (let n = 1n; n <= 3n; n++)
			expectPaid(await server.pay("/session", await smart.payer.voucher(await challenge(), channel, n * PRICE)));
		const forged = await smart.payer.voucher(await challenge(), channel, 4n * PRICE, { signer: stranger });
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", forged)), "session/signer-mismatch");
		const stale = await smart.payer.voucher(await challenge(), channel, PRICE, { signer: stranger });
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", stale)), "session/signer-mismatch");
		const other = { ...(await smart.payer.voucher(await challenge(), channel, 4n * PRICE)) };
		const moved = { ...other, payload: { ...other.payload, cumulativeAmount: String(5n * PRICE) } };
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", moved)), "session/signer-mismatch");
	});

	it("of a contract wallet that a payer with a key has delegated to are its owner's", async () => {
		const payer = await world.payer();
		const channel = payer.channel(server.payee, { signer: smart.payer.account });
		expectPaid(await server.pay("/session", await payer.open(await challenge(), channel, { deposit: DEPOSIT })));
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		const own = await payer.voucher(await challenge(), channel, 2n * PRICE, { signer: payer.account });
		expectRefusal(await unchanged(server, [channel], () => server.pay("/session", own)), "session/signer-mismatch");
		expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 2n * PRICE)));
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: 2n * PRICE });
	});

	it("can't be checked while the chain does not answer: 503, nothing accepted (I10)", async () => {
		const channel = await server.open(smart.payer);
		const draft = await smart.payer.voucher(await challenge(), channel, PRICE);
		server.rpc.down();
		expectRefusal(await unchangedLedger(channel, () => server.pay("/session", draft)), "service-unavailable");
		server.rpc.up();
		expectPaid(await server.pay("/session", draft));
	});

	it("of an account with code of its own are checked against its key first (EIP-7702)", async () => {
		const payer = await world.payer({ gas: true });
		await approvePermit2(world, payer);
		const { client } = world.chain;
		const code = (await rpc(client, "eth_getCode", [smart.payer.address, "latest"])) as Hex;
		await rpc(client, "anvil_setCode", [payer.address, code]);
		const channel = await openedByKey(payer);
		const before = server.rpc.calls("eth_call");
		expectPaid(await server.pay("/session", await payer.voucher(await challenge(), channel, PRICE)));
		expect(server.rpc.calls("eth_call")).toBe(before);
		expectPaid(await server.pay("/session", await payer.close(await challenge(), channel, 3n * PRICE)));
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: 3n * PRICE });
	});
});

/** By the payer's own transaction: a USDC-like token asks the code of an account that has some. */
async function openedByKey(payer: Payer): Promise<TestChannel> {
	const channel = payer.channel(server.payee);
	const hash = await payer.openOnChain(channel, DEPOSIT);
	expectPaid(await server.pay("/session", await payer.openByHash(await challenge(), channel, hash)));
	return channel;
}

/** As `unchanged`, where the chain can't be asked how many transactions there were. */
async function unchangedLedger<T>(channel: TestChannel, action: () => Promise<T>): Promise<T> {
	const before = [await server.ledger(channel), server.calls()];
	const result = await action();
	expect([await server.ledger(channel), server.calls()]).toEqual(before);
	return result;
}
