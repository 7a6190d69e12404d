import { Level } from "level";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { transferWithAuthorizationCall } from "../../../src/escrow/calls.ts";
import { parseChargePayload } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import {
	createWorld,
	type Draft,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	sendFrom,
	standardRoutes,
	type TestChannel,
	transactionOf,
	type World,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;
let failing = false;

const routes: Routes = async (app, kit) => {
	await standardRoutes(app, kit);
	const tiers = [PRICE, 10n * PRICE].map((price) => ({ price, intent: "charge" as const }));
	app.get(
		"/tiers",
		{ config: { payment: tiers } },
		kit.handler("/tiers", ({ payment }) => {
			if (failing) throw new Error("not this time");
			return { amount: String(payment?.amount) };
		}),
	);
};

beforeAll(async () => {
	world = await createWorld();
});
afterAll(() => world.stop());
beforeEach(async () => {
	failing = false;
	payer = await world.payer();
	server = await world.serve({ routes });
});

const setGas = (coins: bigint) =>
	world.chain.client.request({
		method: "anvil_setBalance",
		params: [server.payee, `0x${coins.toString(16)}`],
	} as never);
const GAS = 10n ** 19n;

async function spentChannel(): Promise<TestChannel> {
	const channel = await server.open(payer);
	expectPaid(await server.pay("/session", await payer.voucher(await server.challenge("/session"), channel, PRICE)));
	return channel;
}

const close = async (channel: TestChannel, amount = PRICE) =>
	server.pay("/session", await payer.close(await server.challenge("/session"), channel, amount));

describe("a close that no node took", () => {
	it("can be asked for again under a fresh challenge: its voucher was never public (D7, D9)", async () => {
		const channel = await spentChannel();
		await setGas(10n);
		expect((await close(channel)).status).toBe(503);
		expect(await server.ledger(channel)).toMatchObject({ closingBy: null, publishedCumulative: null });
		await setGas(GAS);
		expectPaid(await close(channel));
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
	});
});

describe("a close that a node was given and refused", () => {
	it("has shown its voucher: from then on it counts as public (D7), and the channel goes on", async () => {
		const channel = await spentChannel();
		const error = { code: -32_000, message: "intrinsic gas too low" };
		server.rpc.lies = (method) => (method === "eth_sendRawTransaction" ? ({ error } as never) : undefined);
		expect((await close(channel)).status).toBe(503);
		server.rpc.lies = () => undefined;
		expect(await server.ledger(channel)).toMatchObject({ closingBy: null, publishedCumulative: PRICE });
		expectPaid(await close(channel, 2n * PRICE));
	});
});

describe("a close whose broadcast nobody answered for", () => {
	it("keeps the channel closing until its outcome is known, and then has it (I8)", async () => {
		const channel = await spentChannel();
		let sent = false;
		server.rpc.fails = (method) => {
			sent ||= method === "eth_sendRawTransaction";
			return sent;
		};
		expect((await close(channel)).status).toBe(503);
		server.rpc.fails = () => false;
		const draft = await payer.voucher(await server.challenge("/session"), channel, 2n * PRICE);
		expectRefusal(await server.pay("/session", draft), "session/channel-closing");
		const answer = await close(channel);
		expectPaid(answer);
		expect((await world.chain.client.getTransactionReceipt({ hash: transactionOf(answer) })).status).toBe("success");
		expect(await world.onChain(channel)).toMatchObject({ finalized: true, settled: PRICE });
	});
});

describe("a channel whose record is damaged while its close is under way", () => {
	it("is out of use, and keeps no other from being served after a restart (I10)", async () => {
		const damaged = await spentChannel();
		const sound = await spentChannel();
		server.rpc.fails = (method) => method === "eth_sendRawTransaction" || method === "eth_getTransactionReceipt";
		expect((await close(damaged)).status).toBe(503);
		await server.stop();
		const disk = new Level<string, string>(server.folder);
		await disk.put(`c:${damaged.channelId}`, "rubbish");
		await disk.close();
		server.rpc.fails = () => false;
		await server.restart();
		const draft = await payer.voucher(await server.challenge("/session"), damaged, 2n * PRICE);
		expect((await server.pay("/session", draft)).status).toBe(503);
		expectPaid(
			await server.pay("/session", await payer.voucher(await server.challenge("/session"), sound, 2n * PRICE)),
		);
		expect(server.logs.some(({ message }) => message.includes("can't be taken up again"))).toBe(true);
	});
});

describe("two closes at once", () => {
	it("are one transaction and two receipts of it", async () => {
		const channel = await spentChannel();
		const before = await server.transactions();
		const answers = await Promise.all([close(channel), close(channel, 2n * PRICE)]);
		for (const answer of answers) expectPaid(answer);
		expect(new Set(answers.map(transactionOf)).size).toBe(1);
		expect(await server.transactions()).toBe(before + 1);
	});
});

describe("a charge", () => {
	it("whose refusal could not be looked into is followed on, and not broadcast again behind the payer's back (I4)", async () => {
		await setGas(10n);
		const draft = await payer.charge(await server.challenge("/charge"), server.payee, PRICE);
		server.rpc.fails = (method) => method === "eth_getLogs" || method === "eth_call";
		expect((await server.pay("/charge", draft)).status).toBe(503);
		server.rpc.fails = () => false;
		await setGas(GAS);
		const answer = await server.pay("/charge", draft);
		expectPaid(answer);
		expect(await world.balance(server.payee)).toBe(PRICE);
		await server.restart();
		expectRefusal(await server.pay("/charge", draft), "invalid-challenge");
		expect(await world.balance(server.payee)).toBe(PRICE);
	});

	it("whose first attempt was passed over, and whose second could not be made, is never delivered unpaid (I4)", async () => {
		const draft = await payer.charge(await server.challenge("/charge"), server.payee, PRICE);
		let refused = false;
		server.rpc.lies = (method) => {
			if (method !== "eth_sendRawTransaction") return undefined;
			refused = true;
			return { result: undefined, error: { code: -32_000, message: "nonce too low" } };
		};
		server.rpc.fails = (method) => refused && method === "eth_getTransactionCount";
		expect((await server.pay("/charge", draft)).status).toBe(503);
		expect(refused).toBe(true);
		server.rpc.lies = () => undefined;
		server.rpc.fails = () => false;
		await server.restart();
		const answer = await server.pay("/charge", draft);
		expectPaid(answer);
		expect(await world.balance(server.payee)).toBe(PRICE);
		expect((await world.chain.client.getTransactionReceipt({ hash: transactionOf(answer) })).status).toBe("success");
		expect(server.calls("/charge")).toBe(1);
	});

	describe("whose transaction's record was lost while it was on its way", () => {
		/** What a damaged outbox leaves: the challenge is held for the payer, and nobody follows anything. */
		const lose = async (draft: Draft) => {
			const key = `challenge:${draft.challenge.id}`;
			const proof = {
				key,
				state: "held",
				owner: "gone",
				usedBy: payer.address,
				reference: `0x${"00".repeat(32)}`,
				expiresAt: null,
			} as const;
			const { durable } = await server.store.transact({ proofs: [key] }, () => ({
				value: undefined,
				writes: { proofs: [proof] },
			}));
			await durable;
		};

		it("is paid by the retry when the chain does not know it: the token takes an authorization once (I4)", async () => {
			const draft = await payer.charge(await server.challenge("/charge"), server.payee, PRICE);
			await lose(draft);
			expect((await server.pay("/charge", draft)).status).toBe(409);
			expectPaid(await server.pay("/charge", draft));
			expect(await world.balance(server.payee)).toBe(PRICE);
		});

		it("is delivered when the chain knows it, and not paid again (I4)", async () => {
			const draft = await payer.charge(await server.challenge("/charge"), server.payee, PRICE);
			await lose(draft);
			const authorization = parseChargePayload(draft.payload);
			if (authorization.type !== "authorization") throw new Error("the draft is a charge by authorization");
			const call = transferWithAuthorizationCall(world.token, authorization);
			const hash = await sendFrom(world.chain, world.chain.account(5), call);
			const answer = await server.pay("/charge", draft);
			expectPaid(answer);
			expect(transactionOf(answer)).toBe(hash);
			expect(await world.balance(server.payee)).toBe(PRICE);
			expectRefusal(await server.pay("/charge", draft), "invalid-challenge");
		});
	});

	it("that another store has delivered is not delivered by this one, which never recorded it (I4)", async () => {
		const secrets = ["a secret that two servers have in common, by mistake"];
		const one = await world.serve({ engine: { secrets } });
		const two = await world.serve({ engine: { secrets }, account: one.account });
		const draft = await payer.charge(await one.challenge("/charge"), one.payee, PRICE);
		expectPaid(await one.pay("/charge", draft));
		expectRefusal(await two.pay("/charge", draft), "verification-failed");
		expect(two.calls()).toBe(0);
	});

	it("for the cheap tier, undelivered, does not fetch the dear one with the same Idempotency-Key (I6)", async () => {
		const { challenges } = await server.send("/tiers");
		const [cheap, dear] = challenges;
		if (cheap === undefined || dear === undefined) throw new Error("two offers make two challenges");
		failing = true;
		const key = "one key";
		expect((await server.pay("/tiers", await payer.charge(cheap, server.payee, PRICE), { key })).status).toBe(500);
		failing = false;
		const dearer = await server.pay("/tiers", await payer.charge(dear, server.payee, 10n * PRICE), { key });
		expect(dearer.json).not.toEqual({ amount: String(10n * PRICE) });
		expect(await world.balance(server.payee)).toBe(PRICE);
	});
});
