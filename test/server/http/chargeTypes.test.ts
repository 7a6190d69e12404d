import { beforeEach, describe, expect, it } from "vitest";
import { type Challenge, createChallenge, decodeRequest, problemType } from "../../../src/protocol/index.ts";
import { type ChargedEvent, OfferError } from "../../../src/server/index.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { expectOneServed, tenTimes } from "../../support/atOnce.ts";
import {
	approvedPayer,
	chargeByHash,
	chargeByPermit2,
	chargeByTransaction,
	payOnChain,
	requestOf,
	rpc,
	SOON,
} from "../../support/chargeDrafts.ts";
import { CHARGE, chargeRoutes } from "../../support/chargeStage.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { useWorld } from "../../support/useWorld.ts";
import {
	type Draft,
	FUNDS,
	type PaidServer,
	type Payer,
	PRICE,
	transactionOf,
	withPayload,
} from "../../support/world.ts";

const TYPES = ["permit2", "authorization", "transaction", "hash"] as const;
type Type = (typeof TYPES)[number];
const SECRET = "0123456789abcdef0123456789abcdef-test";

const world = useWorld();
let server: PaidServer;
let payer: Payer;
let charged: ChargedEvent[];

const all = { ...CHARGE, credentialTypes: TYPES };
const alone = TYPES.map((type) => [`/${type}`, { ...CHARGE, credentialTypes: [type] }] as const);
const routes = chargeRoutes(all, { "/all": all, ...Object.fromEntries(alone) });

beforeEach(async () => {
	payer = await approvedPayer(world);
	charged = [];
	const hooks = { onCharged: (event: ChargedEvent) => void charged.push(event) };
	server = await world.serve({ routes, engine: { secrets: [SECRET], hooks } });
});

async function credential(type: Type, challenge: Challenge): Promise<Draft> {
	switch (type) {
		case "permit2":
			return chargeByPermit2(world, payer, challenge);
		case "authorization":
			return payer.charge(challenge, server.payee, PRICE);
		case "transaction":
			return chargeByTransaction(world, payer, challenge);
		case "hash":
			return chargeByHash(world, payer, challenge, await payOnChain(payer, challenge));
	}
}

const typesOf = async (path: string) => requestOf(await server.challenge(path)).methodDetails.credentialTypes;

/** Code that knows `balanceOf` and nothing else: a plain token, as far as a server asks. */
const PLAIN_TOKEN = "0x60003560e01c6370a0823114601357600080fd5b60016000526020" + "6000f3";

describe("what is offered", () => {
	it("a charge's credential types are listed permit2 first, then authorization, transaction, hash, as token, chain and splits allow", async () => {
		expect(await typesOf("/charge")).toEqual(["permit2", "authorization", "transaction"]);
		expect(await typesOf("/all")).toEqual(TYPES);
		const { client } = world.chain;
		const code = await client.getCode({ address: CANONICAL_PERMIT2 });
		await rpc(client, "anvil_setCode", [CANONICAL_PERMIT2, "0x"]);
		try {
			server = await world.serve({});
			expect(await typesOf("/charge")).toEqual(["authorization", "transaction"]);
			const splits = [{ recipient: world.escrow, amount: 1n }];
			expect(() => server.engine.offers("GET /x", { price: PRICE, intent: "charge", splits })).toThrow(OfferError);
		} finally {
			await rpc(client, "anvil_setCode", [CANONICAL_PERMIT2, code]);
		}
	});

	it("authorization is listed only for a token with EIP-3009", async () => {
		const token = "0x00000000000000000000000000000000000c0ffe";
		await rpc(world.chain.client, "anvil_setCode", [token, PLAIN_TOKEN]);
		server = await world.serve({ token });
		expect(await typesOf("/charge")).toEqual(["permit2", "transaction"]);
		const price = { price: PRICE, intent: "charge" as const, credentialTypes: ["authorization" as const] };
		expect(() => server.engine.offers("GET /x", price)).toThrow(OfferError);
		const draft = await payer.charge(await server.challenge("/charge"), server.payee, PRICE);
		expectRefusal(await unchanged(server, [], () => server.pay("/charge", draft)), "verification-failed");
	});

	it("a route that lists no types takes transaction and hash", async () => {
		for (const type of ["transaction", "hash", "authorization", "permit2"] as const) {
			const { realm, expires, request } = await server.challenge("/all");
			const { methodDetails, ...rest } = decodeRequest({ request }) as { methodDetails: Record<string, unknown> };
			const { credentialTypes: _, ...unlisted } = methodDetails;
			const challenge = createChallenge(SECRET, {
				realm,
				method: "evm",
				intent: "charge",
				request: { ...rest, methodDetails: unlisted },
				...(expires !== undefined && { expires }),
				opaque: (await server.challenge("/all")).opaque ?? "",
			});
			const answer = await server.pay("/all", await credential(type, challenge));
			if (type === "transaction" || type === "hash") expectPaid(answer);
			else expectRefusal(answer, "verification-failed");
		}
	});
});

describe("what is taken", () => {
	it.each(TYPES)(
		"type %s alone where the route names no other, and before anything is read or sent no other",
		async (type) => {
			for (const other of TYPES) {
				if (other === type) continue;
				const draft = await credential(other, await server.challenge(`/${type}`));
				const asked = server.rpc.calls();
				const answer = await server.pay(`/${type}`, draft);
				expect(server.rpc.calls()).toBe(asked);
				expectRefusal(answer, "verification-failed");
			}
			expectPaid(await server.pay(`/${type}`, await credential(type, await server.challenge(`/${type}`))));
			expect(server.calls(`/${type}`)).toBe(1);
		},
	);

	it("a charge of no type, an unknown one, or one that its challenge does not list is refused before anything is read or sent", async () => {
		const draft = await payer.charge(await server.challenge("/permit2"), server.payee, PRICE);
		const asked = server.rpc.calls();
		for (const type of [undefined, null, 7, "", "Hash", "sponsored", "__proto__", ["hash"]])
			expectRefusal(await server.pay("/permit2", withPayload(draft, { type })), "malformed-credential");
		expectRefusal(await server.pay("/permit2", draft), "verification-failed");
		expect(server.rpc.calls()).toBe(asked);
		expect(server.calls()).toBe(0);
	});

	it("every refusal of a charge says in its detail which value was wrong", async () => {
		const challenge = () => server.challenge("/all");
		const other = world.escrow;
		const cases: readonly (readonly [Draft, RegExp])[] = [
			[await payer.charge(await challenge(), other, PRICE), /authorization\.to/],
			[await payer.charge(await challenge(), server.payee, PRICE + 1n), /authorization\.value/],
			[await payer.charge(await challenge(), server.payee, PRICE, { nonce: `0x${"11".repeat(32)}` }), /nonce/],
			[
				await payer.charge(await challenge(), server.payee, PRICE, { validBefore: 5n }),
				/authorization is not valid now/,
			],
			[await chargeByPermit2(world, payer, await challenge(), { deadline: 5n }), /permit\.deadline/],
			[await chargeByPermit2(world, payer, await challenge(), { witness: { externalId: "x" } }), /witness\.externalId/],
			[
				await chargeByPermit2(world, payer, await challenge(), {
					transferDetails: [{ to: other, requestedAmount: PRICE }],
				}),
				/transferDetails\[0\]\.to/,
			],
			[await chargeByTransaction(world, payer, await challenge(), { to: other }), /not to the currency/],
			[await chargeByTransaction(world, payer, await challenge(), { chainId: 1 }), /another chain/],
			[await chargeByTransaction(world, payer, await challenge(), { nonce: 99 }), /nonce/],
			[chargeByHash(world, payer, await challenge(), `0x${"11".repeat(32)}`, "nobody"), /source/],
		];
		for (const [draft, detail] of cases) {
			const answer = await unchanged(server, [], () => server.pay("/all", draft));
			expectRefusal(answer, "verification-failed");
			expect(answer.problem?.detail).toMatch(detail);
		}
	});
});

describe("each type", () => {
	it("a proof of each type is credited once, across restarts and processes (I4)", async () => {
		const paid: Draft[] = [];
		for (const type of TYPES) {
			const draft = await credential(type, await server.challenge("/all"));
			expectPaid(await server.pay("/all", draft));
			paid.push(draft);
		}
		const balances = () => Promise.all([payer.address, server.payee].map((holder) => world.balance(holder)));
		const before = await balances();
		expect(before).toEqual([FUNDS - 4n * PRICE, 4n * PRICE]);
		for (const end of ["not", "restart", "crash"]) {
			if (end === "crash") await server.crash();
			if (end !== "not") await server.restart({ routes });
			for (const draft of paid) {
				expectRefusal(await unchanged(server, [], () => server.pay("/all", draft)), "invalid-challenge");
				// With another challenge the proof is as good as it ever was, and used.
				const again = { ...draft, challenge: await server.challenge("/all") };
				expectRefusal(await unchanged(server, [], () => server.pay("/all", again)), "verification-failed");
			}
		}
		expect(await balances()).toEqual(before);
		expect(server.calls()).toBe(4);
	});

	it("a proof of each type sent ten times at once is credited once (I4)", async () => {
		for (const type of TYPES) {
			const draft = await credential(type, await server.challenge("/all"));
			expectOneServed(await tenTimes(server, "/all", draft), "invalid-challenge", type);
		}
		expect(await world.balance(server.payee)).toBe(4n * PRICE);
		expect(server.calls()).toBe(4);
	});

	it.each(TYPES)("%s: a request that is paid is told to onCharged, once, and no other", async (type) => {
		const challenge = await server.challenge("/once?a=1");
		const draft = await credential(type, challenge);
		expect((await server.pay("/once?a=1", draft)).status).toBe(500);
		expect(charged).toEqual([]);
		const answer = await server.pay("/once?a=1", draft);
		expectPaid(answer);
		expectRefusal(await server.pay("/once?a=1", draft), "invalid-challenge");
		const told = { intent: "charge", amount: PRICE, payer: payer.address, method: "GET", url: "/once?a=1" };
		expect(charged).toEqual([{ ...told, txHash: transactionOf(answer) }]);
	});

	it.each(TYPES)("%s: two payers' credentials for one challenge are taken from the first only (D9)", async (type) => {
		const challenge = await server.challenge("/all");
		const first = await credential(type, challenge);
		expectPaid(await server.pay("/all", first));
		payer = await approvedPayer(world);
		for (const other of TYPES) {
			const late = await credential(other, challenge);
			const answer = await unchanged(server, [], () => server.pay("/all", late));
			expectRefusal(answer, "invalid-challenge");
		}
		expect(server.calls()).toBe(1);
	});

	it.each(TYPES)(
		"%s: a chain that does not answer is 503, nothing is lost, and the same credential works later",
		async (type) => {
			const draft = await credential(type, await server.challenge("/all"));
			server.rpc.down();
			expectRefusal(await server.pay("/all", draft), "service-unavailable");
			server.rpc.up();
			await expect.poll(async () => (await server.pay("/all", draft)).status, SOON).toBe(200);
			expect(await world.balance(server.payee)).toBe(PRICE);
			expect(server.calls()).toBe(1);
		},
	);

	it("a server without gas refuses what it would have to submit with 503, and takes transaction and hash all the same", async () => {
		await rpc(world.chain.client, "anvil_setBalance", [server.payee, "0x0"]);
		for (const type of TYPES) {
			const draft = await credential(type, await server.challenge("/all"));
			const answer = await server.pay("/all", draft);
			if (type === "transaction" || type === "hash") {
				expectPaid(answer);
				continue;
			}
			expectRefusal(answer, "service-unavailable");
			expect(answer.problem?.type).not.toBe(problemType("verification-failed"));
			// What was not sent pays later.
			await rpc(world.chain.client, "anvil_setBalance", [server.payee, "0x8ac7230489e80000"]);
			expectPaid(await server.pay("/all", draft));
			await rpc(world.chain.client, "anvil_setBalance", [server.payee, "0x0"]);
		}
		expect(await world.balance(server.payee)).toBe(4n * PRICE);
	});
});
