import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Challenge, contentDigest } from "../../../src/protocol/index.ts";
import { expectPaid, expectRefusal, unchanged } from "../../support/expect.ts";
import { FACES, type Face, payAt, Site } from "../../support/faces.ts";
import { type Send, send } from "../../support/http.ts";
import {
	createWorld,
	type PaidServer,
	type Payer,
	PRICE,
	type Routes,
	type TestChannel,
	type World,
	withChallenge,
} from "../../support/world.ts";

const bound = { price: PRICE, bindBody: true };
const charge = { price: PRICE, intent: "charge" } as const;
const site = new Site({
	"/session": { price: { price: PRICE }, serve: ({ body }) => ({ body }) },
	"/bound": { price: bound, serve: ({ body }) => ({ body }) },
	"/charge": { price: charge, serve: ({ body }) => ({ body }) },
	"/unbound-charge": { price: { ...charge, bindBody: false }, serve: ({ body }) => ({ body }) },
	"/both": { price: [{ price: PRICE }, charge], serve: ({ body }) => ({ body }) },
	"/computed": { price: () => charge, serve: ({ body }) => ({ body }) },
});

const routes: Routes = (app, { handler }) => {
	app.addContentTypeParser(["application/octet-stream", "text/plain"], { parseAs: "buffer" }, (_request, body, done) =>
		done(null, body),
	);
	app.addContentTypeParser("application/x-stream", (_request, body, done) => done(null, body));
	site.routes(app, { handler });
	app.post(
		"/raw",
		{ config: { payment: charge } },
		handler("/raw", ({ body }) => String((body as Buffer).length)),
	);
	app.post("/unread", { config: { payment: bound } }, handler("/unread"));
};

let world: World;
let server: PaidServer;
let payer: Payer;
let channel: TestChannel;
let origins: Record<Face, string>;

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer();
	server = await world.serve({ routes });
	origins = { fastify: server.url, fetch: await site.listen(server.engine) };
});
afterAll(async () => {
	await site.stop();
	await world.stop();
});
beforeEach(async () => {
	channel = await server.open(payer);
});

const body = '{"question":"how much?"}';
const digest = contentDigest(Buffer.from(body));
const post = { method: "POST", body };

describe.each(FACES)("the %s face", (face) => {
	const ask = (path: string, options: Send = post) => send(origins[face], path, options);
	const challenges = async (path: string, options?: Send) => (await ask(path, options)).challenges;
	const challengeOf = async (path: string, options?: Send): Promise<Challenge> => {
		const [challenge] = await challenges(path, options);
		if (challenge === undefined) throw new Error(`${path}: no challenge`);
		return challenge;
	};
	const payCharge = async (challenge: Challenge, options: Omit<Send, "authorization">, path = "/charge") =>
		payAt(origins[face], path, await payer.charge(challenge, server.payee, PRICE), options);

	it("a challenge for a request with a body states the digest of that body where the route asks for it", async () => {
		for (const path of ["/charge", "/bound", "/computed"]) expect((await challengeOf(path)).digest).toBe(digest);
		for (const path of ["/session", "/unbound-charge"]) expect((await challengeOf(path)).digest).toBeUndefined();
		const [session, oneTime] = await challenges("/both");
		expect([session?.digest, oneTime?.digest]).toEqual([undefined, digest]);
		expect(digest).toBe(`sha-256=:${createHash("sha256").update(body).digest("base64")}:`);
	});

	it("a challenge for a request without a body states no digest", async () => {
		for (const method of ["GET", "POST", "DELETE"])
			expect((await challengeOf("/charge", { method })).digest, method).toBeUndefined();
	});

	it("every refusal of a request with a body has challenges that are bound to it", async () => {
		for (const authorization of ["Payment x", "Payment e30", "Basic dTpw"])
			expect((await challengeOf("/charge", { ...post, authorization })).digest).toBe(digest);
		const draft = await payer.charge(await challengeOf("/charge"), server.payee, PRICE);
		const refused = await payAt(origins[face], "/charge", withChallenge(draft, { realm: "elsewhere" }), post);
		expectRefusal(refused, "invalid-challenge");
		expect(refused.challenges[0]?.digest).toBe(digest);
	});

	it("a credential whose challenge has a digest is refused with another body, an empty one or none, and costs nothing", async () => {
		const draft = await payer.charge(await challengeOf("/charge"), server.payee, PRICE);
		const voucher = await payer.voucher(await challengeOf("/bound"), channel, PRICE);
		const others: readonly Omit<Send, "authorization">[] = [
			{ method: "POST", body: `${body} ` },
			{ method: "POST", body: '{"question":"how much!"}' },
			{ method: "POST", body: "{}" },
			{ method: "POST", headers: { "Content-Length": "0" } },
			{ method: "POST" },
			{ method: "GET" },
			{ method: "POST", key: "k" },
			{ method: "POST", body: "{}", key: "k" },
		];
		const served = site.calls("/charge") + site.calls("/bound");
		await unchanged(server, [channel], async () => {
			for (const other of others) {
				const refused = await payAt(origins[face], "/charge", draft, other);
				expectRefusal(refused, "verification-failed");
				expectRefusal(await payAt(origins[face], "/bound", voucher, other), "verification-failed");
			}
			expect(await payAt(origins[face], "/bound", voucher, { method: "HEAD" })).toMatchObject({
				status: 402,
				receipt: undefined,
			});
		});
		expect(site.calls("/charge") + site.calls("/bound")).toBe(served);
		const answer = await payAt(origins[face], "/charge", draft, post);
		expectPaid(answer);
		expect(answer.text).toBe(body);
		expectPaid(await payAt(origins[face], "/bound", voucher, post));
	});

	it("a digest can't be taken out of a challenge, or be another one", async () => {
		const draft = await payer.charge(await challengeOf("/charge"), server.payee, PRICE);
		for (const forged of [undefined, "", contentDigest(Buffer.from("{}"))]) {
			const altered = withChallenge(draft, { digest: forged });
			const refused = await payAt(origins[face], "/charge", altered, { method: "POST", body: "{}" });
			expect(refused.status).toBe(402);
			expect(refused.receipt).toBeUndefined();
		}
	});

	it("a credential whose challenge has a digest is served with that very body, whatever its encoding or length", async () => {
		for (const text of ["0", `"${"é".repeat(40_000)}"`, '{"a":"\\u0000\\ud83d\\ude00"}']) {
			const same = { method: "POST", body: text };
			const challenge = await challengeOf("/charge", same);
			expect(challenge.digest).toBe(contentDigest(Buffer.from(text)));
			const answer = await payCharge(challenge, same);
			expectPaid(answer);
			expect(JSON.parse(answer.text)).toEqual(JSON.parse(text));
		}
	});

	it("a management credential is held to its challenge's digest too", async () => {
		expectPaid(
			await payAt(origins[face], "/bound", await payer.voucher(await challengeOf("/bound"), channel, PRICE), post),
		);
		const close = await payer.close(await challengeOf("/bound"), channel, PRICE);
		expectRefusal(await payAt(origins[face], "/bound", close, { method: "POST", body: "{}" }), "verification-failed");
		const calls = site.calls("/bound");
		expectPaid(await payAt(origins[face], "/bound", close, post));
		expect(site.calls("/bound")).toBe(calls);
	});
});

describe("the Fastify face", () => {
	it("binds to the bytes that were sent, also packed ones and those that nothing decodes", async () => {
		for (const bytes of [gzipSync("packed"), Buffer.from([0, 255, 254]), Buffer.alloc(300_000, 7)]) {
			const options = { method: "POST", body: bytes, headers: { "Content-Type": "application/octet-stream" } };
			const [challenge] = (await server.send("/raw", options)).challenges;
			if (challenge === undefined) throw new Error("no challenge");
			expect(challenge.digest).toBe(contentDigest(bytes));
			const answer = await server.pay("/raw", await payer.charge(challenge, server.payee, PRICE), options);
			expectPaid(answer);
			expect(answer.text).toBe(String(bytes.length));
		}
	});

	it("refuses a body before a challenge is made for it that is too long, not JSON or of a type nobody reads", async () => {
		const type = (name: string) => ({ headers: { "Content-Type": name } });
		const statuses = await Promise.all([
			server.send("/charge", { method: "POST", body: "{" }),
			server.send("/charge", { method: "POST", body: `"${"x".repeat(1_100_000)}"` }),
			server.send("/charge", { method: "POST", body: "<a/>", ...type("application/xml") }),
		]);
		expect(statuses.map(({ status }) => status)).toEqual([400, 413, 415]);
	});

	it("leaves the connection to its next request where a long body is never read", async () => {
		const long = Buffer.alloc(500_000, 120);
		const headers = { "Content-Type": "application/x-stream" };
		for (let n = 0; n < 3; n++)
			expectRefusal(await server.send("/session", { method: "POST", body: long, headers }), "payment-required");
		for (let n = 0; n < 3; n++) {
			const { status, challenges } = await server.send("/unread", { method: "POST", body: long, headers });
			expect(status).toBe(402);
			// Nobody has read the body, so there is nothing to bind to.
			expect(challenges[0]?.digest).toBeUndefined();
		}
		const draft = await payer.voucher(await server.challenge("/session"), channel, PRICE);
		for (let n = 0; n < 3; n++) {
			const answer = await server.pay("/unread", draft, { method: "POST", body: long, headers, key: "k" });
			expectRefusal(answer, "bad-request");
		}
		expectPaid(await server.pay("/session", draft));
	});
});
