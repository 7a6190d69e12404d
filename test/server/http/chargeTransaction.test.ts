import { type Hex, keccak256 } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { approveCall, transferCall } from "../../../src/escrow/calls.ts";
import type { OutboxEntry } from "../../../src/escrow/outbox.ts";
import type { Challenge } from "../../../src/protocol/index.ts";
import { expectOneServed, tenTimes } from "../../support/atOnce.ts";
import {
	chargeByHash,
	chargeByTransaction,
	hideFrom,
	hideLogs,
	pooled,
	requestOf,
	SOON,
	sendAhead,
	signTransfer,
	type TransactionOptions,
	withoutMining,
} from "../../support/chargeDrafts.ts";
import {
	CHARGE,
	chargeRoutes,
	crashOncePaid,
	expectAnsweredAgain,
	expectDeliveredAfterFailure,
	expectDeliveredOnce,
	expectFirstServed,
	expectPriceMoved,
	type Free,
	nonceOf,
	sendsNothing,
} from "../../support/chargeStage.ts";
import { expectPaid, expectRefusal } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import { type Draft, FUNDS, type PaidServer, type Payer, PRICE, transactionOf } from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

const routes = chargeRoutes(CHARGE, {
	"/order": { ...CHARGE, externalId: "o-1" },
	"/seen": { ...CHARGE, credentialTypes: ["transaction", "hash"] },
});

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	server = await world.serve({ routes });
});

const stranger = privateKeyToAccount(generatePrivateKey());

async function credential(options: TransactionOptions = {}, path = "/charge", challenge?: Challenge): Promise<Draft> {
	return chargeByTransaction(world, payer, challenge ?? (await server.challenge(path)), options);
}

/** Nothing moved, nothing was broadcast, no handler ran. */
const free: Free = (action) => sendsNothing({ world, server, payer }, action);

async function expectPaidOnce(): Promise<void> {
	await expectPriceMoved({ world, server, payer });
	expect(await nonceOf(world, payer)).toBe(1);
	expect(await server.transactions(), "transactions that we have paid for").toBe(0);
}

describe("transaction", () => {
	it("a charge by transaction is broadcast, waited for, and served with a receipt for it", async () => {
		const draft = await credential();
		const answer = await server.pay("/charge", draft);
		expectFirstServed(world, draft, answer, keccak256(draft.payload.signature as Hex));
		const receipt = await world.chain.client.getTransactionReceipt({ hash: transactionOf(answer) });
		expect(receipt).toMatchObject({ status: "success", from: payer.address, to: world.token });
		await expectPaidOnce();
	});

	it("a charge by transaction is taken with its sender as source, and with an access list", async () => {
		const source = `did:pkh:eip155:${world.chain.chainId}:${payer.account.address}`;
		expectPaid(await server.pay("/charge", await credential({ source })));
		const accessList = [{ address: world.token, storageKeys: [] }];
		expectPaid(await server.pay("/charge", await credential({ accessList })));
	});

	it("names the merchant's reference in its receipt", async () => {
		const answer = await server.pay("/order", await credential({}, "/order"));
		expect(answer.receipt).toMatchObject({ externalId: "o-1" });
	});

	it("on HEAD is refused before anything is broadcast (D11)", async () => {
		const draft = await credential();
		expect((await free(() => server.pay("/charge", draft, { method: "HEAD" }))).status).toBe(402);
		expectPaid(await server.pay("/charge", draft));
	});
});

describe("transaction, again (I4)", () => {
	it("a charge by transaction is delivered once: after a restart and a clean-up, too", async () => {
		const draft = await credential();
		await expectDeliveredOnce(server, draft, free);
		await expectPaidOnce();
	});

	it("a charge by transaction sent ten times at once is one broadcast and one delivery", async () => {
		const draft = await credential();
		expectOneServed(await tenTimes(server, "/charge", draft), "invalid-challenge");
		expect(server.calls("/charge")).toBe(1);
		expect(server.rpc.calls("eth_sendRawTransaction")).toBe(1);
		await expectPaidOnce();
	});

	it("one transaction pays one of ten challenges that it is shown with at once", async () => {
		const first = await credential();
		const drafts = await Promise.all(
			Array.from({ length: 10 }, async () => ({ ...first, challenge: await server.challenge("/charge") })),
		);
		const answers = await Promise.all(drafts.map((draft) => server.pay("/charge", draft)));
		expectOneServed(answers, "verification-failed");
		expect(server.calls("/charge")).toBe(1);
		await expectPaidOnce();
	});

	it("a transaction that has paid pays no other challenge, also as a hash, after a restart and a clean-up", async () => {
		const draft = await credential();
		const answer = await server.pay("/charge", draft);
		expectPaid(answer);
		for (const restart of [false, true]) {
			if (restart) {
				await server.restart({ routes });
				server.clock.advance(30 * 86_400_000);
				await server.store.prune(server.clock.now());
			}
			for (const path of ["/charge", "/seen"]) {
				const again = { ...draft, challenge: await server.challenge(path) };
				expectRefusal(await free(() => server.pay(path, again)), "verification-failed");
			}
			const shown = chargeByHash(world, payer, await server.challenge("/seen"), transactionOf(answer));
			expectRefusal(await free(() => server.pay("/seen", shown)), "verification-failed");
		}
		await expectPaidOnce();
	});

	it("a transaction that was broadcast before it came here pays nothing: in a block, and in a pool", async () => {
		const challenge = await server.challenge("/charge");
		const raw = await signTransfer(world, payer.account, requestOf(challenge));
		const draft = { challenge, payload: { type: "transaction", signature: raw } };
		await withoutMining(world, async () => {
			await world.chain.client.sendRawTransaction({ serializedTransaction: raw });
			expect(await pooled(world)).toBe(1);
			expectRefusal(await server.pay("/charge", draft), "verification-failed");
		});
		expect(await world.balance(server.payee)).toBe(PRICE);
		expectRefusal(await free(() => server.pay("/charge", draft)), "verification-failed");
		expect(server.calls("/charge")).toBe(0);
	});

	it("with an Idempotency-Key is answered again, not charged again, also under a fresh challenge (I6)", async () => {
		const draft = await credential();
		await expectAnsweredAgain(server, draft, credential, free);
		// What is public proves nobody: the payer's old transaction under a challenge of a stranger's.
		const old = { ...draft, challenge: await server.challenge("/charge") };
		expectRefusal(await free(() => server.pay("/charge", old, { key: "k" })), "verification-failed");
		await expectPaidOnce();
	});
});

async function outbox(state: "pending" | "any"): Promise<readonly OutboxEntry[]> {
	const entries: OutboxEntry[] = [];
	for await (const entry of server.store.outbox({ state })) entries.push(entry);
	return entries;
}

describe("transaction, on its way", () => {
	it("a transaction that reverts once mined is refused, not served", async () => {
		const draft = await credential({ nonce: 1 });
		const answer = await withoutMining(world, async (mine) => {
			// First in the block: the transfer was good when it was simulated.
			await sendAhead(world, payer, transferCall(world.token, stranger.address, FUNDS));
			const paying = server.pay("/charge", draft);
			await expect.poll(() => pooled(world), SOON).toBe(2);
			await mine();
			return paying;
		});
		expectRefusal(answer, "verification-failed");
		expect(server.calls("/charge")).toBe(0);
		// It can't be mined a second time.
		expectRefusal(await free(() => server.pay("/charge", draft)), "verification-failed");
	});

	it("a transaction that succeeded without the expected transfer is refused, not served", async () => {
		const draft = await credential();
		hideFrom(server);
		const paying = server.pay("/charge", draft);
		await expect.poll(() => world.balance(server.payee), SOON).toBe(PRICE);
		await hideLogs(world, server, keccak256(draft.payload.signature as Hex));
		expectRefusal(await paying, "verification-failed");
		expect(server.calls("/charge")).toBe(0);
	});

	it("a transaction whose nonce another one took is concluded as dropped, and its challenge is free again", async () => {
		const challenge = await server.challenge("/charge");
		const draft = await credential({}, "/charge", challenge);
		const answer = await withoutMining(world, async (mine) => {
			const paying = server.pay("/charge", draft);
			await expect.poll(() => pooled(world), SOON).toBe(1);
			await sendAhead(world, payer, approveCall(world.token, stranger.address, 1n), 0);
			await mine();
			return paying;
		});
		expectRefusal(answer, "verification-failed");
		expect(await world.balance(server.payee)).toBe(0n);
		const [entry] = await outbox("any");
		expect(entry).toMatchObject({ state: "dropped", from: payer.address, purpose: { kind: "charge" } });
		expectPaid(await server.pay("/charge", await credential({}, "/charge", challenge)));
		expect(await world.balance(server.payee)).toBe(PRICE);
	});

	it("no more than sixteen of one sender are on their way at a time", async () => {
		await server.restart({ engine: { limits: { transactionTimeoutMs: 50 } }, routes });
		await withoutMining(world, async () => {
			for (let nonce = 0; nonce < 16; nonce++)
				expectRefusal(await server.pay("/charge", await credential({ nonce })), "service-unavailable");
			const more = await credential({ nonce: 16 });
			expectRefusal(await server.pay("/charge", more), "verification-failed");
			expect(await pooled(world)).toBe(16);
		});
	});

	it("is in the outbox before any node has it (I4, I5)", async () => {
		const draft = await credential();
		let recorded: readonly OutboxEntry[] = [];
		server.rpc.fails = (method) => method === "eth_sendRawTransaction";
		const paying = server.pay("/charge", draft).catch(() => undefined);
		await expect
			.poll(async () => {
				recorded = await outbox("pending");
				return recorded.length;
			}, SOON)
			.toBe(1);
		expect(await nonceOf(world, payer)).toBe(0);
		expect(recorded).toMatchObject([{ raw: draft.payload.signature, from: payer.address, nonce: 0 }]);
		server.rpc.up();
		expectPaid((await paying) as never);
		await expectPaidOnce();
	});

	it("a charge by transaction that is not mined in time is 503, and the same credential is delivered later, once", async () => {
		await server.restart({ engine: { limits: { transactionTimeoutMs: 200 } }, routes });
		const draft = await credential();
		await withoutMining(world, async () => {
			expectRefusal(await server.pay("/charge", draft), "service-unavailable");
			const again = { ...draft, challenge: await server.challenge("/charge") };
			expectRefusal(await server.pay("/charge", again), "verification-failed");
		});
		server.clock.advance(3_600_000);
		await expect.poll(async () => (await server.pay("/charge", draft)).status, SOON).toBe(200);
		expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
		await expectPaidOnce();
	});

	it("a charge by transaction whose handler failed is delivered later to the same credential, once (I7)", async () => {
		const draft = await credential({}, "/once");
		await expectDeliveredAfterFailure(server, draft, expectPaidOnce, free);
	});

	it("a charge by transaction that the server crashed on is followed by its next start, and delivered once (I5, I7)", async () => {
		const draft = await credential();
		server.rpc.lies = (method) => (method === "eth_getTransactionReceipt" ? { result: null } : undefined);
		await crashOncePaid({ world, server, payer }, draft);
		server.clock.advance(3_600_000);
		await server.restart();
		await server.store.prune(server.clock.now());
		const again = { ...draft, challenge: await server.challenge("/charge") };
		expectRefusal(await free(() => server.pay("/charge", again)), "verification-failed");
		expectPaid(await server.pay("/charge", draft));
		expectRefusal(await free(() => server.pay("/charge", draft)), "invalid-challenge");
		await expectPaidOnce();
	});
});
