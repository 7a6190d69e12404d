import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { beforeEach, describe, expect, it } from "vitest";
import { transferCall, transferWithAuthorizationCall } from "../../../src/escrow/calls.ts";
import { readTokenDomain } from "../../../src/escrow/reads.ts";
import { type Challenge, formatSource } from "../../../src/protocol/index.ts";
import type { EvmPrice } from "../../../src/server/index.ts";
import { chargeNonce, signAuthorization } from "../../../src/voucher/index.ts";
import { blocklistTokenBytecode } from "../../model/generated/doubles.ts";
import { expectOneServed, tenTimes } from "../../support/atOnce.ts";
import {
	approvedPayer,
	chargeByHash,
	chargeByPermit2,
	deployContract,
	mintOf,
	payOnChain,
	requestOf,
	rpc,
	sendAhead,
	withoutMining,
} from "../../support/chargeDrafts.ts";
import { CHARGE, chargeRoutes, crashInHandler, expectFirstServed } from "../../support/chargeStage.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	DEPOSIT,
	type Draft,
	FUNDS,
	type PaidServer,
	type Payer,
	PRICE,
	transactionOf,
	withPayload,
} from "../../support/world.ts";

const world = useWorld();
let server: PaidServer;
let payer: Payer;

const hashed: EvmPrice = { ...CHARGE, credentialTypes: ["hash", "authorization", "permit2"] };
const routes = chargeRoutes(hashed, { "/hash": hashed, "/other": { ...hashed, externalId: "o-1" } });

beforeEach(async () => {
	payer = await world.payer({ gas: true });
	server = await world.serve({ routes });
});

const stranger = privateKeyToAccount(generatePrivateKey());

/** Asks, pays on chain, and shows the hash. */
async function paidCredential(path = "/hash", given?: Challenge): Promise<Draft> {
	const challenge = given ?? (await server.challenge(path));
	return chargeByHash(world, payer, challenge, await payOnChain(payer, challenge));
}

/** No handler ran, and we spent nothing. */
function free<T>(action: () => Promise<T>): Promise<T> {
	return unchanged(server, [], action);
}

describe("hash", () => {
	it("a charge by hash is served for a transfer of exactly the price, with a receipt for it", async () => {
		const draft = await paidCredential("/other");
		const answer = await server.pay("/other", draft);
		expectFirstServed(world, draft, answer, draft.payload.hash);
		expect(answer.receipt).toMatchObject({ externalId: "o-1" });
		expect(await world.balance(server.payee)).toBe(PRICE);
		expect(await server.transactions()).toBe(0);
	});

	it("is taken only where the route names it", async () => {
		expect(requestOf(await server.challenge("/charge")).methodDetails.credentialTypes).not.toContain("hash");
		const draft = await paidCredential("/charge");
		expectRefusal(await free(() => server.pay("/charge", draft)), "verification-failed");
	});

	it("a charge by hash of a transaction nobody knows has to come back later", async () => {
		const challenge = await server.challenge("/hash");
		const draft = chargeByHash(world, payer, challenge, `0x${"ab".repeat(32)}`);
		expectRefusal(await free(() => server.pay("/hash", draft)), "service-unavailable");
		// And its challenge is still good.
		expectPaid(await server.pay("/hash", await paidCredential("/hash", challenge)));
	});

	it("of a transaction that is not mined yet is 503, and the same credential is served once it is", async () => {
		await server.restart({ routes, engine: { limits: { transactionTimeoutMs: 100 } } });
		const challenge = await server.challenge("/hash");
		const draft = await withoutMining(world, async () => {
			const hash = await sendAhead(world, payer, transferCall(world.token, server.payee, PRICE));
			const one = chargeByHash(world, payer, challenge, hash);
			expectRefusal(await free(() => server.pay("/hash", one)), "service-unavailable");
			return one;
		});
		expectPaid(await server.pay("/hash", draft));
	});

	it("is credited only when its transaction is as deep as option confirmations asks", async () => {
		await server.restart({ routes, engine: { limits: { confirmations: 3, transactionTimeoutMs: 100 } } });
		const draft = await paidCredential();
		expectRefusal(await free(() => server.pay("/hash", draft)), "service-unavailable");
		for (let block = 0; block < 2; block++) await rpc(world.chain.client, "evm_mine");
		expectPaid(await server.pay("/hash", draft));
	});

	it("on HEAD is refused, and the hash stays unused (D11)", async () => {
		const draft = await paidCredential();
		expect((await free(() => server.pay("/hash", draft, { method: "HEAD" }))).status).toBe(402);
		expectPaid(await server.pay("/hash", draft));
	});
});

describe("hash, refused", () => {
	/** The credential of a transfer that differs from what was asked for. */
	async function of(changes: Parameters<typeof payOnChain>[2]): Promise<Draft> {
		const challenge = await server.challenge("/hash");
		return chargeByHash(world, payer, challenge, await payOnChain(payer, challenge, changes));
	}

	const cases: readonly (readonly [title: string, make: () => Promise<Draft>])[] = [
		["the transaction reverted", () => of({ amount: 2n ** 200n })],
		[
			"another token's transfer",
			async () => {
				const currency = await deployContract(world, blocklistTokenBytecode);
				await mintOf(world, currency, payer.address, FUNDS);
				return of({ currency });
			},
		],
		["another recipient", () => of({ recipient: stranger.address.toLowerCase() as `0x${string}` })],
		["a lower amount", () => of({ amount: PRICE - 1n })],
		["a higher amount", () => of({ amount: PRICE + 1n })],
		[
			"a sender who is not the source",
			async () => ({
				...(await paidCredential()),
				source: formatSource(world.chain.chainId, stranger.address.toLowerCase() as `0x${string}`),
			}),
		],
		[
			"a source on another chain",
			async () => ({ ...(await paidCredential()), source: formatSource(1, payer.address) }),
		],
		[
			"no source",
			async () => {
				const { source: _, ...draft } = await paidCredential();
				return draft;
			},
		],
		[
			"a transaction of our own: a charge by authorization",
			async () => {
				const paid = await server.pay(
					"/hash",
					await payer.charge(await server.challenge("/hash"), server.payee, PRICE),
				);
				expectPaid(paid);
				return chargeByHash(world, payer, await server.challenge("/hash"), transactionOf(paid));
			},
		],
		[
			"a transaction of our own: a charge by permit2",
			async () => {
				payer = await approvedPayer(world);
				const paid = await server.pay("/hash", await chargeByPermit2(world, payer, await server.challenge("/hash")));
				expectPaid(paid);
				return chargeByHash(world, payer, await server.challenge("/hash"), transactionOf(paid));
			},
		],
		[
			"a transaction of our own: the close of a channel, as if the escrow had paid",
			async () => {
				const channel = await server.open(payer, { deposit: DEPOSIT, amount: PRICE });
				const closing = await payer.close(await server.challenge("/session"), channel, PRICE);
				const closed = await server.pay("/session", closing);
				expect(closed.status).toBe(200);
				const escrow = { address: world.escrow };
				return chargeByHash(world, escrow, await server.challenge("/hash"), transactionOf(closed));
			},
		],
		[
			"an authorization for another challenge that a stranger executed",
			async () => {
				const { chainId, client } = world.chain;
				const other = await server.challenge("/hash");
				const authorization = {
					from: payer.address,
					to: server.payee,
					value: PRICE,
					validAfter: 0n,
					validBefore: 2n ** 40n,
					nonce: chargeNonce(other.id, other.realm),
				};
				const domain = await readTokenDomain(client, world.token, chainId);
				const signature = await signAuthorization("transfer", payer.account, domain, authorization);
				const call = transferWithAuthorizationCall(world.token, { ...authorization, signature });
				const hash = await (await world.payer({ gas: true })).sendBlind(call);
				return chargeByHash(world, payer, await server.challenge("/hash"), hash);
			},
		],
	];

	it.each(cases)("a charge by hash is refused, and the hash stays unused: %s", async (_title, make) => {
		const draft = await make();
		const answer = await free(() => server.pay("/hash", draft));
		expectRefusal(answer, "verification-failed");
		expect(answer.problem?.detail).toMatch(/\w{3,}/);
		expect(
			await server.store.transact({ proofs: [key(draft)] }, (view) => ({ value: view.proof(key(draft)) })),
		).toMatchObject({ value: undefined });
	});

	const key = ({ payload }: Draft) => `transaction:${world.chain.chainId}:${payload.hash}`;

	it("a charge by hash is refused, and the hash stays unused: the amount in two transfers", async () => {
		const challenge = await server.challenge("/hash");
		const hashes = [
			await payOnChain(payer, challenge, { amount: PRICE / 2n }),
			await payOnChain(payer, challenge, { amount: PRICE / 2n }),
		];
		for (const hash of hashes)
			expectRefusal(
				await free(() => server.pay("/hash", chargeByHash(world, payer, challenge, hash))),
				"verification-failed",
			);
	});

	it("a charge by hash is refused, and the hash stays unused: mined before the challenge was issued", async () => {
		const draft = await paidCredential();
		server.clock.advance(120_000);
		const later = { ...draft, challenge: await server.challenge("/hash") };
		expectRefusal(await free(() => server.pay("/hash", later)), "verification-failed");
		// It was paid for the earlier challenge, and that one is still good.
		expectPaid(await server.pay("/hash", draft));
	});

	it.each([undefined, null, 7, "0x", "0xab", `0x${"ab".repeat(31)}`, `0x${"zz".repeat(32)}`, `${"ab".repeat(32)}`])(
		"a payload by hash is malformed when its hash is %s",
		async (hash) => {
			const draft = withPayload(chargeByHash(world, payer, await server.challenge("/hash"), "0x"), { hash });
			expectRefusal(await free(() => server.pay("/hash", draft)), "malformed-credential");
		},
	);

	it("for an expired challenge", async () => {
		const draft = await paidCredential();
		server.clock.advance(301_000);
		expectRefusal(await free(() => server.pay("/hash", draft)), "invalid-challenge");
	});
});

describe("hash, again (I4)", () => {
	it("a hash is credited once, also across challenges, routes, restarts and concurrent requests (I4)", async () => {
		const draft = await paidCredential();
		const fresh = await Promise.all(
			Array.from({ length: 4 }, async () => ({ ...draft, challenge: await server.challenge("/hash") })),
		);
		const all = [...Array.from({ length: 6 }, () => draft), ...fresh];
		const answers = await Promise.all(all.map((one) => server.pay("/hash", one)));
		expect(answers.filter(({ status }) => status === 200).length).toBe(1);
		for (const { status } of answers) expect([200, 402]).toContain(status);
		expect(server.calls("/hash")).toBe(1);

		for (const restart of [false, true]) {
			if (restart) {
				await server.restart({ routes });
				server.clock.advance(30 * 86_400_000);
				await server.store.prune(server.clock.now());
			}
			for (const path of ["/hash", "/other"]) {
				const again = { ...draft, challenge: await server.challenge(path) };
				expectRefusal(await free(() => server.pay(path, again)), "verification-failed");
				const upper = withPayload(again, { hash: `0x${String(draft.payload.hash).slice(2).toUpperCase()}` });
				expectRefusal(await free(() => server.pay(path, upper)), "verification-failed");
			}
			expectRefusal(await free(() => server.pay("/hash", draft)), "invalid-challenge");
		}
		expect(server.calls()).toBe(1);
	});

	it("sent ten times at once is delivered once", async () => {
		const draft = await paidCredential();
		expectOneServed(await tenTimes(server, "/hash", draft), "invalid-challenge");
		expect(server.calls("/hash")).toBe(1);
	});

	it("with an Idempotency-Key is answered again to the same credential, and to no other hash (I3, I6)", async () => {
		const draft = await paidCredential();
		const first = await server.pay("/hash", draft, { key: "k" });
		expectPaid(first);
		await server.restart({ routes });
		expect((await free(() => server.pay("/hash", draft, { key: "k" }))).text).toBe(first.text);
		expectRefusal(await free(() => server.pay("/hash", draft, { key: "other" })), "invalid-challenge");
		// Who guesses payer and key has not paid for this.
		const guess = chargeByHash(world, payer, await server.challenge("/hash"), `0x${"cd".repeat(32)}`);
		expectRefusal(await free(() => server.pay("/hash", guess, { key: "k" })), "service-unavailable");
	});

	it("whose handler failed is delivered later to the same credential, once (I7)", async () => {
		const draft = await paidCredential("/once");
		expect((await server.pay("/once", draft)).status).toBe(500);
		const stolen = { ...draft, challenge: await server.challenge("/once") };
		expectRefusal(await server.pay("/once", stolen), "verification-failed");
		server.clock.advance(3_600_000);
		await server.store.prune(server.clock.now());
		expectPaid(await server.pay("/once", draft));
		expectRefusal(await free(() => server.pay("/once", draft)), "invalid-challenge");
	});

	it("fetches nothing that another credential has paid for, whoever it names (I3)", async () => {
		const challenge = await server.challenge("/once");
		const signed = await payer.charge(challenge, server.payee, PRICE);
		expect((await server.pay("/once", signed)).status).toBe(500);
		const paid = await payOnChain(payer, challenge);
		for (const hash of [paid, `0x${"cd".repeat(32)}` as const]) {
			const guess = chargeByHash(world, payer, challenge, hash);
			expectRefusal(await free(() => server.pay("/once", guess)), "invalid-challenge");
		}
		expectPaid(await server.pay("/once", signed));
	});

	it("that the server crashed on is delivered after its restart, once (I5, I7)", async () => {
		const draft = await paidCredential();
		await crashInHandler(server, "/hash", draft);
		expectPaid(await server.pay("/hash", draft));
		expectRefusal(await free(() => server.pay("/hash", draft)), "invalid-challenge");
	});
});
