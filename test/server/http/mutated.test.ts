import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectPaid, expectProblem } from "../../support/expect.ts";
import {
	createWorld,
	type Draft,
	encode,
	type PaidServer,
	type Payer,
	PRICE,
	type TestChannel,
	type World,
} from "../../support/world.ts";

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
/** A voucher that would be served: whatever is refused is refused for what was done to it. */
let good: Draft;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({ fastify: { http: { maxHeaderSize: 65_536 } } });
	channel = await server.open(payer);
	good = await payer.voucher(await server.challenge("/session"), channel, PRICE);
});
afterAll(async () => {
	// It was good all along.
	expectPaid(await server.pay("/session", good));
	await world.stop();
});

describe("any change to a good credential", () => {
	/** What the server acts on: two credentials alike in this are the same one. */
	function meaning(authorization: string): unknown {
		try {
			const { challenge, payload } = JSON.parse(
				Buffer.from(authorization.slice(8), "base64url").toString("utf8"),
			) as Draft;
			const { id, realm, method, intent, request, expires, digest, opaque } = challenge;
			const { action, channelId, cumulativeAmount, signature: signed, deposit } = payload;
			return {
				id,
				realm,
				method,
				intent,
				request,
				expires,
				digest,
				opaque,
				action,
				channelId,
				cumulativeAmount,
				signed,
				deposit,
			};
		} catch {
			return undefined;
		}
	}

	const json = fc.oneof(
		fc.string(),
		fc.integer(),
		fc.double(),
		fc.constantFrom(null, true, "", "0", "-1", {}, []),
		fc.jsonValue(),
	);
	const member = fc.constantFrom(
		"challenge.id",
		"challenge.realm",
		"challenge.method",
		"challenge.intent",
		"challenge.request",
		"challenge.expires",
		"challenge.opaque",
		"payload.action",
		"payload.channelId",
		"payload.cumulativeAmount",
		"payload.signature",
		"challenge",
		"payload",
	);
	const change = fc.oneof(
		fc.record({ kind: fc.constant("replace" as const), member, value: json }),
		fc.record({ kind: fc.constant("remove" as const), member }),
		fc.record({
			kind: fc.constant("digit" as const),
			member,
			at: fc.nat(),
			character: fc.constantFrom(..."0123456789abcdefABCDEFxzZ|,-_ \u0000é"),
		}),
		fc.record({
			kind: fc.constant("byte" as const),
			at: fc.nat(),
			character: fc.constantFrom(..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ ,"),
		}),
		fc.record({ kind: fc.constant("cut" as const), at: fc.nat() }),
	);

	function apply(changes: readonly (typeof change extends fc.Arbitrary<infer T> ? T : never)[]): string {
		let token: string | undefined;
		let draft: Record<string, unknown> = structuredClone(good) as unknown as Record<string, unknown>;
		for (const one of changes) {
			if (one.kind === "byte" || one.kind === "cut") {
				token ??= encode(draft);
				const at = 8 + (one.at % (token.length - 8));
				token = token.slice(0, at) + (one.kind === "cut" ? "" : one.character + token.slice(at + 1));
				if (token.length <= 8) break;
				continue;
			}
			const [part = "", name] = one.member.split(".");
			if (name === undefined) {
				draft = { ...draft, [part]: one.kind === "replace" ? one.value : undefined };
				continue;
			}
			const owner = draft[part];
			if (typeof owner !== "object" || owner === null) continue;
			const text = String(Reflect.get(owner, name) ?? "");
			const at = one.kind === "digit" ? one.at % (text.length + 1) : 0;
			const value =
				one.kind === "replace"
					? one.value
					: one.kind === "remove"
						? undefined
						: text.slice(0, at) + one.character + text.slice(at + 1);
			draft = { ...draft, [part]: { ...owner, [name]: value } };
		}
		return (token ?? encode(draft)).replace(/[^\x20-\x7e]/g, "?");
	}

	it("is a 4xx with a problem body and changes nothing, ever (I3, I10)", async () => {
		const before = await server.snapshot([channel]);
		await fc.assert(
			fc.asyncProperty(
				fc.array(change, { minLength: 1, maxLength: 3 }),
				fc.constantFrom("GET", "POST", "HEAD"),
				async (changes, method) => {
					const authorization = apply(changes);
					fc.pre(JSON.stringify(meaning(authorization)) !== JSON.stringify(meaning(encode(good))));
					const answer = await server.send("/session", { authorization, method });
					expect(answer.status).toBeGreaterThanOrEqual(400);
					expect(answer.status).toBeLessThan(500);
					if (method !== "HEAD") expectProblem(answer);
				},
			),
			{ numRuns: 600 },
		);
		expect(await server.snapshot([channel])).toEqual(before);
	});
});
