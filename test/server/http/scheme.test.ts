import { getAddress } from "viem";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
	type Challenge,
	decodeBase64urlText,
	decodeRequest,
	encodeBase64url,
	MAX_CHALLENGE_HEADER_LENGTH,
	parseChallenges,
	WWW_AUTHENTICATE,
} from "../../../src/protocol/index.ts";
import { CANONICAL_PERMIT2 } from "../../../src/voucher/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { createWorld, DEPOSIT, type PaidServer, type Payer, PRICE, type World } from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve();
});
afterAll(() => world.stop());

const recipients = Array.from({ length: 10 }, (_, n) => `0x${(n + 1).toString(16).repeat(40).slice(0, 40)}`);
const splitsOf = (memo: string) => recipients.map((recipient, n) => ({ recipient, amount: BigInt(n + 1), memo }));
const big = (text: string, memo: string) =>
	({
		price: 10n ** 30n,
		intent: "charge",
		description: text,
		externalId: text,
		splits: splitsOf(memo),
	}) as const;

/** All members of a JSON value that look like addresses. */
function addressesIn(value: unknown): string[] {
	if (typeof value === "string") return /^0x[0-9a-fA-F]{40}$/.test(value) ? [value] : [];
	return typeof value === "object" && value !== null ? Object.values(value).flatMap(addressesIn) : [];
}

describe("a challenge", () => {
	it("a challenge is under 8 KB also with ten splits and the longest description, and one that would be longer is refused when its route is declared", async () => {
		const long = await world.serve({
			routes: (app, { handler }) => {
				app.post("/long", { config: { payment: big("é".repeat(200), "m".repeat(150)) } }, handler("/long"));
				app.post("/plain", { config: { payment: big("d".repeat(512), "m".repeat(100)) } }, handler("/plain"));
			},
		});
		for (const path of ["/long", "/plain"]) {
			const answer = await long.send(path, { method: "POST", body: "{}" });
			expectRefusal(answer, "payment-required");
			const field = answer.header(WWW_AUTHENTICATE) ?? "";
			expect(field.length).toBeGreaterThan(4_096);
			expect(field.length).toBeLessThan(8_192);
			const [challenge] = answer.challenges;
			expect(challenge?.digest).toBeDefined();
			expect((decodeRequest(challenge as Challenge).methodDetails as { splits: unknown[] }).splits).toHaveLength(10);
		}
		const started = world.serve({
			routes: (app, { handler }) => {
				app.get("/longer", { config: { payment: big("é".repeat(512), "日".repeat(256)) } }, handler("/longer"));
			},
		});
		await expect(started).rejects.toThrow(/GET \/longer: payment .*the challenge would have \d+ bytes; shorten them/);
	});

	it("a challenge of 4 KB and of the limit is read, one longer than the limit is not", () => {
		const challenge = (length: number) => {
			const field = (description: string) =>
				`Payment id="id", realm="api.example.com", method="evm", intent="charge", request="e30", description="${description}"`;
			return field("A".repeat(length - field("").length));
		};
		for (const length of [4_096, 8_192, MAX_CHALLENGE_HEADER_LENGTH]) {
			const field = challenge(length);
			expect(field).toHaveLength(length);
			expect(parseChallenges(field)).toMatchObject([{ challenge: { id: "id", intent: "charge" } }]);
		}
		const longer = challenge(MAX_CHALLENGE_HEADER_LENGTH + 1);
		expect(() => parseChallenges(longer)).toThrow(expect.objectContaining({ reason: "too_long" }));
	});

	it("addresses of a challenge's request are written in EIP-55 and read in any case", async () => {
		const routed = await world.serve({
			routes: (app, { handler }) => {
				const payment = [
					{ price: PRICE },
					{ price: PRICE, intent: "charge" as const },
					{ price: 1_000n, intent: "charge" as const, splits: splitsOf("fee") },
				];
				app.get("/all", { config: { payment } }, handler("/all"));
			},
		});
		const { challenges } = await routed.send("/all");
		expect(challenges).toHaveLength(3);
		for (const challenge of challenges) {
			const request = decodeRequest(challenge);
			const addresses = addressesIn(request);
			expect(addresses).toEqual(addresses.map((address) => getAddress(address)));
			expect(request).toMatchObject({ currency: getAddress(world.token), recipient: getAddress(routed.payee) });
		}
		const [session, charge] = challenges;
		if (session === undefined || charge === undefined) throw new Error("three challenges");
		expect(decodeRequest(session)).toMatchObject({ methodDetails: { escrowContract: getAddress(world.escrow) } });
		expect(decodeRequest(charge)).toMatchObject({ methodDetails: { permit2Address: getAddress(CANONICAL_PERMIT2) } });

		// In a payload they may be in any case.
		const draft = await payer.charge(charge, routed.payee, PRICE);
		const { from, to } = draft.payload as { from: string; to: string };
		const shouted = { from: from.toUpperCase().replace("0X", "0x"), to: getAddress(to) };
		expectPaid(await routed.pay("/all", { ...draft, payload: { ...draft.payload, ...shouted } }));
		const channel = payer.channel(routed.payee);
		const open = await payer.open(session, channel, { deposit: DEPOSIT, amount: PRICE });
		const authorization = open.payload.authorization as Record<string, string>;
		const mixed = {
			...authorization,
			from: getAddress(authorization.from ?? ""),
			to: getAddress(authorization.to ?? ""),
		};
		expectPaid(await routed.pay("/all", { ...open, payload: { ...open.payload, authorization: mixed } }));
	});

	it("of which any part of the request is changed, its case included, is not ours any more", async () => {
		const challenge = await server.challenge("/session");
		const channel = await server.open(payer);
		const lowered = decodeBase64urlText(challenge.request).replace(getAddress(world.token), world.token);
		const draft = await payer.voucher({ ...challenge, request: encodeBase64url(lowered) }, channel, PRICE);
		expectRefusal(await server.pay("/session", draft), "session/challenge-not-found");
	});
});

describe("what is not paid", () => {
	it("a thousand unpaid requests leave the store as it was", async () => {
		const channel = await server.open(payer);
		const everything = async () => {
			const channels: unknown[] = [];
			for await (const one of server.store.channels()) channels.push(one);
			const outbox: unknown[] = [];
			for await (const entry of server.store.outbox({ state: "any" })) outbox.push(entry);
			return { channels, outbox };
		};
		const before = await everything();
		await unchanged(server, [channel], async () => {
			for (let n = 0; n < 100; n++) {
				const statuses = await Promise.all(
					Array.from({ length: 10 }, async (_, at) => {
						const path = at % 2 === 0 ? "/session" : "/charge";
						const options = [
							{},
							{ key: `k${n}` },
							{ authorization: "Payment x" },
							{ method: "POST", body: "{}" },
							{ method: "POST", body: "{}", key: "k" },
						][at % 5];
						return (await server.send(path, options)).status;
					}),
				);
				expect(new Set(statuses)).toEqual(new Set([402]));
			}
		});
		expect(await everything()).toEqual(before);
	});
});
