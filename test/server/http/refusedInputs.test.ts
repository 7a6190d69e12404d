import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Challenge, type ProblemName, problemStatus } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import {
	type Base,
	changed,
	rowsOf,
	type Spoilt,
	unknownChallenge,
	upper,
	wrongShape,
} from "../../support/refusedInputs.ts";
import {
	Clock,
	createWorld,
	DEPOSIT,
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
/** Issues challenges of the same realm and secret that have expired. */
let past: PaidServer;
let payer: Payer;

/** What is refused is refused for what was done to it, not because an authorization has run out. */
const FAR = 2n ** 40n;

/** A voucher of its own channel that pays for one more request each time. */
function vouchers(): (challenge: Challenge) => Promise<Draft> {
	let channel: TestChannel | undefined;
	let amount = 0n;
	return async (challenge) => {
		channel ??= await server.open(payer);
		amount += PRICE;
		return payer.voucher(challenge, channel, amount);
	};
}

const voucherMembers = { uint128: ["cumulativeAmount"], bytes32: ["channelId"] };
const session = { intent: "session", path: "/session", method: "GET" } as const;
const charge = { intent: "charge", path: "/charge", method: "GET" } as const;
const eip3009Members = (prefix: string) => ({
	address: [`${prefix}from`, `${prefix}to`],
	uint256: [`${prefix}validAfter`, `${prefix}validBefore`],
});

const bases: readonly Base[] = [
	{
		...session,
		title: "session: open by authorization",
		members: {
			...eip3009Members("authorization."),
			name: [
				["action", "refund"],
				["type", "transaction"],
			],
			uint128: ["cumulativeAmount", "authorization.value"],
			bytes32: ["channelId", "salt", "authorization.nonce"],
			object: ["authorization"],
			signature: [
				["signature", "session/invalid-signature"],
				["voucherSignature", "session/invalid-signature"],
			],
		},
		make: (challenge) =>
			payer.open(challenge, payer.channel(server.payee), {
				deposit: DEPOSIT,
				amount: PRICE,
				authorization: { validBefore: FAR },
			}),
	},
	{
		...session,
		title: "session: open by hash",
		members: {
			name: [
				["action", "refund"],
				["type", "transaction"],
			],
			uint128: ["cumulativeAmount"],
			bytes32: ["channelId", "salt", "hash"],
			signature: [["signature", "session/invalid-signature"]],
		},
		make: async (challenge) => {
			const channel = payer.channel(server.payee);
			return payer.openByHash(challenge, channel, await payer.openOnChain(channel, DEPOSIT), PRICE);
		},
	},
	{
		...session,
		title: "session: voucher",
		members: {
			...voucherMembers,
			name: [["action", "settle"]],
			signature: [["signature", "session/invalid-signature"]],
		},
		make: vouchers(),
	},
	{
		...session,
		title: "session: voucher on HEAD",
		method: "HEAD",
		members: {
			...voucherMembers,
			name: [["action", "settle"]],
			signature: [["signature", "session/invalid-signature"]],
		},
		make: vouchers(),
	},
	{
		...session,
		title: "session: close",
		members: {
			...voucherMembers,
			name: [["action", "withdraw"]],
			signature: [["signature", "session/invalid-signature"]],
		},
		make: async (challenge) => payer.close(challenge, await server.open(payer), PRICE),
	},
	{
		...charge,
		title: "charge: authorization",
		members: {
			...eip3009Members(""),
			name: [["type", "cash"]],
			uint256: ["value", "validAfter", "validBefore"],
			bytes32: ["nonce"],
			signature: [["signature", "verification-failed"]],
		},
		make: (challenge) => payer.charge(challenge, server.payee, PRICE, { validBefore: FAR }),
	},
];

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer({ gas: true });
	const engine = { secrets: ["the same secret for now and for then"] };
	server = await world.serve({ engine, fastify: { http: { maxHeaderSize: 65_536 } } });
	const clock = new Clock();
	clock.advance(-400_000);
	past = await world.serve({ engine, clock, account: server.account });
});
afterAll(() => world.stop());

describe.each(bases)("$title", (base) => {
	const { intent, path, method, members } = base;
	/** A credential that would be taken: whatever is refused is refused for what was done to it. */
	let good: Draft;

	const fresh = async (at = path) => base.make(await server.challenge(at));
	const pay = (spoilt: Spoilt) => server.send(path, { method, authorization: spoilt });

	async function refused(name: ProblemName, spoilt: Spoilt): Promise<void> {
		const { channelId } = good.payload;
		const channels = typeof channelId === "string" ? [{ channelId: channelId as `0x${string}` }] : [];
		const answer = await unchanged(server, channels, () => pay(spoilt));
		if (method !== "HEAD") return expectRefusal(answer, name);
		// The same refusal without its body.
		expect(answer.status).toBe(problemStatus(name));
		expect(answer.receipt).toBeUndefined();
		expect(answer.header("cache-control")).toBe("no-store");
		expect(answer.challenges.length > 0).toBe(answer.status === 402);
	}

	beforeAll(async () => {
		good = await fresh();
	});

	// Each changes nothing, runs nothing and costs nothing.
	describe.each(rowsOf(base))("%s", (_what, rows) => {
		it.each(rows)("%s: %s", async (_title, name, spoil) => {
			await refused(name, spoil(good));
		});
	});

	describe("is refused", () => {
		it("with a challenge that has expired (D9)", async () => {
			await refused(unknownChallenge(intent), await base.make(await past.challenge(path)));
		});

		it("with the other intent's challenge, or its payload (D9)", async () => {
			const [otherPath, otherIntent] =
				intent === "session" ? ["/charge", "charge" as const] : ["/session", "session" as const];
			await refused(unknownChallenge(otherIntent), { ...good, challenge: await server.challenge(otherPath) });
			const other = await payer.charge(good.challenge, server.payee, PRICE);
			const payload = intent === "session" ? other.payload : { action: "voucher", channelId: `0x${"11".repeat(32)}` };
			await refused(wrongShape(intent), { ...good, payload });
		});
	});

	describe("is taken", () => {
		it("as it was all along", async () => {
			expectPaid(await pay(good));
		});

		it("with members that nobody knows, which are ignored, however deep", async () => {
			const { challenge, payload, ...rest } = await fresh();
			const more = {
				more: { action: "close", constructor: 1, deep: JSON.parse(`${"[".repeat(1_500)}${"]".repeat(1_500)}`) },
			};
			const within = Object.entries(payload).map(([name, value]) => [
				name,
				typeof value === "object" && !Array.isArray(value) ? { ...value, more: 1 } : value,
			]);
			const draft = {
				...rest,
				challenge: { ...challenge, more: 1 },
				payload: { ...Object.fromEntries(within), ...more },
			};
			expectPaid(await pay(encode({ ...draft, more: 1 })));
		});

		it.skipIf(members.address === undefined)("with addresses in any case", async () => {
			const draft = (members.address ?? []).reduce((one, path) => changed(one, path, upper), await fresh());
			expectPaid(await pay(draft));
		});

		it.skipIf(intent === "session")("with hex in any case", async () => {
			const paths = [...(members.bytes32 ?? []), ...(members.signature ?? []).map(([path]) => path)];
			expectPaid(await pay(paths.reduce((one, path) => changed(one, path, upper), await fresh())));
		});

		it("with the scheme in any case, and beside another scheme", async () => {
			const header = encode(await fresh()).replace("Payment ", "pAYMENT   ");
			expectPaid(await pay(["Basic dTpw", header]));
		});
	});
});

it("a header longer than any may be is refused by the server itself", async () => {
	const answer = await unchanged(past, [], () =>
		past.send("/session", { authorization: `Payment ${"A".repeat(40_000)}` }),
	);
	expect(answer.status).toBe(431);
});
