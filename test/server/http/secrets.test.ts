import { Writable } from "node:stream";
import { Level } from "level";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { approvePermit2, chargeByPermit2, chargeByTransaction } from "../../support/chargeDrafts.ts";
import { merged, openByPermit2, topUpByAuthorization, topUpByPermit2 } from "../../support/sessionDrafts.ts";
import {
	type Answer,
	createWorld,
	DEPOSIT,
	type Draft,
	encode,
	type LogLine,
	type PaidServer,
	type Payer,
	PRICE,
	RpcProxy,
	type Send,
	type TestChannel,
	type World,
} from "../../support/world.ts";

const SECRET = "a-secret-that-nobody-may-ever-see-anywhere";
const privateKey = generatePrivateKey();

let world: World;
let server: PaidServer;
let payer: Payer;
let fastifyLog = "";
const logs: LogLine[] = [];
const answers: string[] = [];
/** All that ever went to a client: challenges, receipts, problems. */
const everything: string[] = [];
/** Credentials and signatures that were sent; none of them may come back or be written down. */
const sent = new Set<string>();

beforeAll(async () => {
	world = await createWorld();
	payer = await world.payer({ gas: true });
	await approvePermit2(world, payer);
	const stream = new Writable({
		write(chunk: Buffer, _encoding, done) {
			fastifyLog += chunk.toString("utf8");
			done();
		},
	});
	server = await world.serve({
		account: privateKeyToAccount(privateKey),
		engine: { secrets: [SECRET], limits: { transactionTimeoutMs: 300 } },
		fastify: { logger: { level: "trace", stream } },
		logs,
	});
});
afterAll(() => world.stop());

/** Whatever is long enough to be a signature, or holds one, however deep. */
function signaturesIn(value: unknown): string[] {
	if (typeof value === "string") return /^0x[0-9a-f]{128,}$/i.test(value) ? [value] : [];
	return typeof value === "object" && value !== null ? Object.values(value).flatMap(signaturesIn) : [];
}

async function pay(path: string, draft: Draft, options: Omit<Send, "authorization"> = {}): Promise<Answer> {
	const authorization = encode(draft);
	sent.add(authorization).add(authorization.slice("Payment ".length));
	for (const signature of signaturesIn(draft.payload)) {
		sent.add(signature);
		// A signed transaction ends with them.
		if (signature.length > 132) sent.add(signature.slice(-64)).add(signature.slice(-130, -66));
		if (signature.length !== 132) continue;
		// r, and s: a part of it is as bad.
		sent.add(signature.slice(2, 66)).add(signature.slice(66, 130));
	}
	const answer = await server.pay(path, draft, options);
	const text = `${JSON.stringify(answer.headers)} ${answer.text}`;
	everything.push(text);
	if (answer.status >= 400) answers.push(text);
	return answer;
}

/** Everything a server can be made to say: good requests, forged ones, faults of the chain and of the store. */
async function provokeEverything(): Promise<void> {
	const challenge = (path = "/session") => server.challenge(path);
	const channel = payer.channel(server.payee);
	await pay("/session", await payer.open(await challenge(), channel, { deposit: DEPOSIT, amount: PRICE }));
	await pay("/session", await payer.open(await challenge(), payer.channel(server.payee), { deposit: 10n ** 30n }));
	const good = await payer.voucher(await challenge(), channel, 2n * PRICE);
	for (const members of [
		{},
		{},
		{ signature: `${String(good.payload.signature).slice(0, -2)}1d` },
		{ signature: `${String(good.payload.signature).slice(0, -2)}` },
		{ signature: String(good.payload.signature).toUpperCase() },
		{ cumulativeAmount: "999999999" },
		{ channelId: `0x${"77".repeat(32)}` },
		{ action: good.payload.signature },
	])
		await pay("/session", { ...good, payload: { ...good.payload, ...members } });
	await pay("/session", await payer.voucher(await challenge(), channel, 2n * DEPOSIT));
	await pay("/session", { ...good, challenge: { ...good.challenge, id: "x" } });

	const charge = await payer.charge(await challenge("/charge"), server.payee, PRICE);
	await pay("/charge", charge);
	await pay("/charge", charge);
	await pay("/charge", { ...charge, payload: { ...charge.payload, nonce: charge.payload.signature } });
	const poor = await world.payer({ funds: 0n });
	await pay("/charge", await poor.charge(await challenge("/charge"), server.payee, PRICE));

	for (const path of ["/charge", "/session"]) await provokeOtherTypes(path, channel);

	// The chain goes away at each step of a charge and of a close, and while a restart looks for what is unfinished.
	for (const broken of [
		"eth_fillTransaction eth_estimateGas",
		"eth_getTransactionCount",
		"eth_sendRawTransaction",
		"eth_getTransactionReceipt",
	]) {
		server.rpc.fails = (method) => broken.split(" ").includes(method);
		await pay("/charge", await payer.charge(await challenge("/charge"), server.payee, PRICE));
		await pay("/session", await payer.open(await challenge(), payer.channel(server.payee), { deposit: DEPOSIT }));
	}
	await server.restart();
	server.rpc.down();
	server.clock.advance(15_001);
	await pay("/session", await payer.voucher(await challenge(), channel, 3n * PRICE));
	await pay("/session", await payer.close(await challenge(), channel, 3n * PRICE));
	server.rpc.up();
	await server.restart();
	await pay("/session", await payer.close(await challenge(), channel, 3n * PRICE));
	await server.store.close();
	await pay("/session", await payer.voucher(await challenge(), channel, 3n * PRICE));
	await pay("/charge", await payer.charge(await challenge("/charge"), server.payee, PRICE));
}

/** Every type besides `authorization`, good and then again, and one that the chain refuses. */
async function provokeOtherTypes(path: string, channel: TestChannel): Promise<void> {
	const one = () => server.challenge(path);
	const drafts =
		path === "/charge"
			? [
					await chargeByPermit2(world, payer, await one()),
					await chargeByPermit2(world, payer, await one(), { signer: privateKeyToAccount(generatePrivateKey()) }),
					await chargeByTransaction(world, payer, await one()),
					await chargeByTransaction(world, payer, await one(), { nonce: 0 }),
					await chargeByTransaction(world, payer, await one(), { data: "0xa9059cbb" }),
				]
			: [
					await openByPermit2(payer, await one(), payer.channel(server.payee), { deposit: DEPOSIT }),
					await topUpByPermit2(payer, await one(), channel, DEPOSIT),
					await topUpByPermit2(payer, await one(), channel, 10n ** 30n),
					await topUpByAuthorization(payer, await one(), channel, DEPOSIT),
					merged(
						await payer.voucher(await one(), channel, 2n * PRICE),
						await topUpByAuthorization(payer, await one(), channel, PRICE),
					),
				];
	for (const draft of drafts) for (const _ of ["once", "again"]) await pay(path, draft);
}

describe("keys, credentials, signatures and secrets (DESIGN 10; core: Credential Handling)", () => {
	const forbidden = () => [SECRET, privateKey.slice(2), RpcProxy.API_KEY, ...sent];
	const found = (text: string) => {
		const lower = text.toLowerCase();
		return forbidden().filter((secret) => lower.includes(secret.toLowerCase()));
	};

	beforeAll(provokeEverything);

	it("are provoked: there is much to log, and much was refused", () => {
		expect(sent.size).toBeGreaterThan(50);
		expect(answers.length).toBeGreaterThan(15);
		expect(logs.map(({ level }) => level)).toEqual(expect.arrayContaining(["info", "warn", "error"]));
		expect(fastifyLog).toContain("incoming request");
	});

	it("are in no line that the engine logs", () => {
		const lines = logs.map((line) => JSON.stringify(line));
		expect(lines.filter((line) => found(line).length > 0)).toEqual([]);
	});

	it("are in no line that Fastify logs, at trace level", () => {
		expect(fastifyLog.split("\n").filter((line) => found(line).length > 0)).toEqual([]);
	});

	it("are in no refusal", () => {
		expect(answers.filter((answer) => found(answer).length > 0)).toEqual([]);
	});

	it("neither a challenge, a receipt, a problem nor a stored record contains a binding secret", async () => {
		everything.push(JSON.stringify((await server.send("/session")).headers));
		const disk = new Level<Buffer, Buffer>(server.folder, { keyEncoding: "buffer", valueEncoding: "buffer" });
		const records: Buffer[] = [];
		for await (const [key, value] of disk.iterator()) records.push(Buffer.concat([key, value]));
		await disk.close();
		expect(records.length).toBeGreaterThan(10);
		expect(everything.length).toBeGreaterThan(20);
		expect(everything.some((text) => text.includes("www-authenticate"))).toBe(true);
		expect(everything.some((text) => text.includes("payment-receipt"))).toBe(true);
		// What is encoded is looked into as well: a header's base64url holds JSON.
		const decoded = everything.flatMap((text) =>
			(text.match(/[A-Za-z0-9_-]{24,}/g) ?? []).map((part) => Buffer.from(part, "base64url")),
		);
		const secret = Buffer.from(SECRET);
		const forms = ["utf8", "base64", "base64url", "hex"] as const;
		for (const bytes of [...everything.map((text) => Buffer.from(text)), ...decoded, ...records])
			for (const form of forms) expect(bytes.includes(secret.toString(form).replace(/=+$/, ""))).toBe(false);
	});
});
