/** What the payer makes of whatever a JSON-RPC server answers: a scripted one, over a connection that a test holds in its hands. */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { payRpc, RpcCallError, type RpcRequestMessage } from "../../src/client/index.ts";
import { addressOf, baseOf, targetOf } from "../../src/client/jsonrpc/places.ts";
import {
	CREDENTIAL_META,
	challengeFromRpc,
	challengeToRpc,
	formatTimestamp,
	IDEMPOTENCY_META,
	type JsonObject,
	problem,
	RECEIPT_META,
	type RpcCredential,
	type RpcError,
	rpcRefusal,
} from "../../src/protocol/index.ts";
import { createWorld, type Payer, type World } from "../support/world.ts";
import { challengeOf, clientFor, codeOf, type Spy, STRANGER, sessionTerms, spyOn } from "./support.ts";

let world: World;
let payer: Payer;
let spy: Spy;
beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
});
afterAll(() => world.stop());
beforeEach(() => {
	spy = spyOn(payer.account);
});

type Answer = Readonly<{ result?: unknown; error?: RpcError; _meta?: JsonObject }>;
type Asked = Readonly<{ message: RpcRequestMessage; credential: RpcCredential | undefined; index: number }>;

const fresh = (changes: object = {}) => challengeOf(sessionTerms(world, STRANGER), changes);
const required = (challenge = fresh()): Answer => ({
	error: rpcRefusal(problem("payment-required", "Pay."), { challenges: [challenge] }),
});
const refusedBy = (name: Parameters<typeof problem>[0], challenge = fresh(), retryAfterSeconds?: number): Answer => ({
	error: rpcRefusal(problem(name, "No."), { challenges: [challenge], retryAfterSeconds }),
});

/** A call of a payer of its own, to a server that answers what it is told to. */
function calling(answer: (asked: Asked) => Answer | Promise<Answer>, options = {}) {
	const asked: Asked[] = [];
	const agent = clientFor(world, spy.account, ["rpc.localhost"], {}, options);
	const rpc = payRpc(agent, { name: "rpc" }, async (message) => {
		const credential = message._meta?.[CREDENTIAL_META] as RpcCredential | undefined;
		const one = { message, credential, index: asked.length };
		asked.push(one);
		return { jsonrpc: "2.0", id: message.id, ...(await answer(one)) };
	});
	return { asked, agent, rpc };
}

/** A result with a receipt for the channel that a credential is about. */
function paid({ credential }: Asked, spent: bigint, result: unknown = "served"): Answer {
	const { channelId, cumulativeAmount } = (credential?.payload ?? {}) as Record<string, string>;
	const receipt = {
		...{ method: "evm", intent: "session", status: "success", timestamp: formatTimestamp(Date.now()) },
		...{ challengeId: credential?.challenge.id, chainId: world.chain.chainId, reference: channelId, channelId },
		...{ acceptedCumulative: cumulativeAmount, spent: String(spent) },
	};
	return { result, _meta: { [RECEIPT_META]: receipt } };
}

describe("a payment that is not taken", () => {
	it("is made anew with the fresh challenge of -32043, at no second price", async () => {
		const { rpc, asked } = calling((one) => {
			if (one.credential === undefined) return required();
			return one.index === 1 ? refusedBy("session/challenge-not-found") : paid(one, 100n);
		});
		expect((await rpc.call("m")).result).toBe("served");
		const [, first, second] = asked;
		expect(second?.credential?.challenge.id).not.toBe(first?.credential?.challenge.id);
		expect(spy.vouchers()).toEqual([100n, 100n]);
		expect(asked.map(({ message }) => message._meta?.[IDEMPOTENCY_META])).toEqual([
			undefined,
			expect.any(String),
			first?.message._meta?.[IDEMPOTENCY_META],
		]);
	});

	it("is handed on as the server's own error when nothing helps", async () => {
		const { rpc } = calling((one) => (one.credential === undefined ? required() : refusedBy("verification-failed")));
		await expect(rpc.call("m")).rejects.toMatchObject({
			code: -32043,
			data: { failure: { reason: "verification-failed" } },
		});
	});

	it("is tried again when the server says when: -32603 with retryAfterSeconds", async () => {
		const { rpc, asked } = calling((one) => {
			if (one.credential === undefined) return required();
			return one.index === 1 ? refusedBy("service-unavailable", fresh(), 0) : paid(one, 100n);
		});
		expect((await rpc.call("m")).result).toBe("served");
		// A challenge that was answered is not answered again, whether the server has looked at it or not.
		const ids = asked.flatMap(({ credential }) => credential?.challenge.id ?? []);
		expect(new Set(ids).size).toBe(ids.length);
	});
});

describe("an answer that is lost", () => {
	it("is asked for again with the same idempotency key, under a fresh challenge, and counted once", async () => {
		const { rpc, asked, agent } = calling((one) => {
			if (one.credential === undefined) return required();
			if (one.index === 1) throw new Error("the connection broke");
			return paid(one, 100n);
		});
		await rpc.call("m");
		const paidOnes = asked.filter(({ credential }) => credential !== undefined);
		expect(paidOnes).toHaveLength(2);
		const [one, other] = paidOnes.map(({ message }) => message._meta?.[IDEMPOTENCY_META]);
		expect(one).toBe(other);
		expect(new Set(paidOnes.map(({ credential }) => credential?.challenge.id)).size).toBe(2);
		expect(agent.channels[0]).toMatchObject({ consumed: 100n, signed: 100n });
	});
});

describe("a challenge", () => {
	it("that has expired, is of another method, or can't be read is not answered: nothing is signed", async () => {
		const old = challengeToRpc(fresh({ expires: "2025-01-15T12:05:00Z" }));
		const other = challengeToRpc(fresh({ method: "tempo" }));
		const encoded = { ...challengeToRpc(fresh()), request: "e30" };
		for (const challenges of [[old], [other], [encoded], [7], []]) {
			const data = { httpStatus: 402, challenges };
			const { rpc } = calling(() => ({ error: { code: -32042, message: "Payment Required", data } }));
			await expect(rpc.call("m")).rejects.toBeInstanceOf(RpcCallError);
		}
		expect(spy.signed).toEqual([]);
	});

	it("is read whatever status its error names", async () => {
		for (const status of [1000, 99, -1, 204, 304]) {
			const data = {
				httpStatus: status,
				challenges: [challengeToRpc(fresh())],
				problem: { ...problem("payment-required", "Pay."), status },
			};
			const { rpc } = calling((one) =>
				one.credential === undefined ? { error: { code: -32042, message: "", data } } : paid(one, 100n),
			);
			expect((await rpc.call("m")).result).toBe("served");
		}
	});

	it("that can't be read does not hide those that can", async () => {
		const data = { httpStatus: 402, challenges: [null, { id: 1 }, challengeToRpc(fresh())] };
		const { rpc } = calling((one) =>
			one.credential === undefined ? { error: { code: -32042, message: "", data } } : paid(one, 100n),
		);
		expect((await rpc.call("m")).result).toBe("served");
	});

	it("goes back as it came, with members that nobody here knows", async () => {
		const native = { ...challengeToRpc(fresh()), extra: { kept: [1, 2] } };
		const data = { httpStatus: 402, challenges: [native] };
		const { rpc, asked } = calling((one) =>
			one.credential === undefined ? { error: { code: -32042, message: "", data } } : paid(one, 100n),
		);
		await rpc.call("m");
		expect(asked[1]?.credential?.challenge).toEqual(native);
		expect(challengeFromRpc(asked[1]?.credential?.challenge).id).toBe(native.id);
	});
});

describe("two sessions of one payer at one server", () => {
	it("carry each its own calls, once, and share the channel", async () => {
		const agent = clientFor(world, spy.account, ["rpc.localhost"]);
		const served: string[] = [];
		let spent = 0n;
		const sessionOf = (name: string) =>
			payRpc(agent, { name: "rpc" }, async (message) => {
				const credential = message._meta?.[CREDENTIAL_META] as RpcCredential | undefined;
				const answer = () => {
					if (credential === undefined) return required();
					spent += 100n;
					served.push(`${name} ${message.method} ${JSON.stringify(message.params)}`);
					return paid({ message, credential, index: 0 }, spent, name);
				};
				return { jsonrpc: "2.0", id: message.id, ...answer() };
			});
		const [a, b] = [sessionOf("a"), sessionOf("b")];
		expect((await a.call("m", [1])).result).toBe("a");
		expect((await b.call("m", [2])).result).toBe("b");
		expect((await a.call("n", [3])).result).toBe("a");
		const both = await Promise.all([a.call("m", [4]), b.call("m", [5])]);
		expect(both.map(({ result }) => result)).toEqual(["a", "b"]);
		expect(served.slice(0, 3)).toEqual(["a m [1]", "b m [2]", "a n [3]"]);
		expect(served.slice(3).sort()).toEqual(["a m [4]", "b m [5]"]);
		expect(agent.channels).toHaveLength(1);
		expect(agent.channels[0]).toMatchObject({ consumed: 500n });
	});
});

describe("a session that has ended", () => {
	it("makes no call, by its connection or by HTTP", async () => {
		const fetched: unknown[] = [];
		const fetch = async (input: unknown) => {
			fetched.push(input);
			return new Response();
		};
		const { rpc, asked } = calling(() => ({ result: 1 }), { fetch });
		await rpc.call("m");
		rpc.end();
		rpc.end();
		expect(await codeOf(rpc.call("m"))).toBe("RPC_ENDED");
		expect([asked.length, fetched]).toEqual([1, []]);
	});
});

describe("an answer that is no payment's", () => {
	it("is the caller's: another error, a result without a receipt", async () => {
		const { rpc } = calling(() => ({ error: { code: -32601, message: "Method not found" } }));
		await expect(rpc.call("m")).rejects.toMatchObject({ code: -32601 });
		const free = calling(() => ({ result: null }));
		expect(await free.rpc.call("m")).toEqual({ result: null, receipt: undefined });
	});

	it("that is no JSON-RPC response is the connection's fault, and is not taken for one", async () => {
		const { agent } = calling(() => ({ result: 1 }));
		const rpc = payRpc(agent, { name: "other" }, async () => "nonsense");
		expect(await codeOf(rpc.call("m"))).toMatch(/untyped: TypeError/);
	});
});

describe("a call that is given up", () => {
	it("ends with its signal's reason", async () => {
		const stop = new AbortController();
		const { rpc, asked } = calling((one) => {
			if (one.credential === undefined) return required();
			stop.abort(new Error("enough"));
			return Promise.reject(new Error("the connection broke"));
		});
		await expect(rpc.call("m", [], { signal: stop.signal })).rejects.toThrow("enough");
		expect(asked).toHaveLength(2);
	});
});

describe("the address of an operation", () => {
	it.each([
		["tools/call", { name: "web search/é" }, "tools/call/web%20search%2F%C3%A9"],
		["resources/read", { uri: "data://x/y?z" }, "resources/read/data%3A%2F%2Fx%2Fy%3Fz"],
		["prompts/get", { name: "a" }, "prompts/get/a"],
	])("of %s says enough to ask for its price again", (method, params, path) => {
		const base = baseOf({ url: "https://api.example.com/mcp/" });
		expect(base).toBe("https://api.example.com/mcp/-/");
		const address = addressOf(base, { method, params: { ...params, arguments: { secret: 1 } } });
		expect(address).toBe(base + path);
		expect(targetOf(base, new URL(address).href)).toEqual({ method, params });
	});

	it.each(["..", ".", "=", "=..", "%2e%2e", "a/..", "", "tools/call/.."])(
		"stays below the server's own: %j",
		(name) => {
			const base = baseOf({ url: "https://api.example.com/mcp" });
			for (const target of [{ method: name }, { method: "tools/call", params: { name } }]) {
				const { href } = new URL(addressOf(base, target));
				expect(href.startsWith(base)).toBe(true);
				expect(targetOf(base, href)).toEqual(target);
			}
		},
	);

	it("is none for a name that is not well-formed", () => {
		expect(() => addressOf(baseOf({ name: "rpc" }), { method: "\ud800" })).toThrow(/Unicode/);
	});

	it("of any other method is its name", () => {
		const base = baseOf({ name: "rpc" });
		expect(base).toBe("https://rpc.localhost/-/");
		expect(targetOf(base, addressOf(base, { method: "a/b", params: [1] }))).toEqual({ method: "a/b" });
	});

	it.each(["", "Upper", "a.b", "-a", "a/b", "a".repeat(64)])("needs a name that can be a host: %j", (name) => {
		expect(() => baseOf({ name })).toThrow(/lowercase/);
	});
});
