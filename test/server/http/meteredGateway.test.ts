/** A gateway: another server's event stream is sent on as it comes, and paid for by its events or by what it counts itself. */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { type EventPrice, type Meter, meterEvents, type UpstreamEvent } from "../../../src/server/index.ts";
import { FACES, type MeteredStage, meteredStage } from "../../support/meteredStage.ts";
import { readEvents } from "../../support/streamReader.ts";
import { useWorld } from "../../support/useWorld.ts";

const completion = (content: string) => `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;
const usage = (total: number) => `data: ${JSON.stringify({ choices: [], usage: { total_tokens: total } })}\n\n`;

/** What the upstream sends on each path, write by write. */
const STREAMS: Readonly<Record<string, readonly string[]>> = {
	"/ragged": [": hello\n\nda", "ta: a\n\ndata: b\r\n", "\r\nevent: other\nid: 7\ndata: c\ndata: é", "\n\n"],
	"/unfinished": ["data: a\n\n", "data: b"],
	"/chat": [...["Once", " upon", " a", " time"].map(completion), usage(9), "data: [DONE]\n\n"],
	"/chat-cheap": [...["Once", " upon"].map(completion), usage(1), "data: [DONE]\n\n"],
	// An upstream that is paid for itself.
	"/paid": [
		"data: a\n\nevent: payment-need-voucher\ndata: {}\n\n",
		"data: b\n\nevent: payment-rec",
		'eipt\r\ndata: {"spent":"1"}\r\n\r\ndata: c\n\n',
		"event: payment-receipt\ndata: {}",
	],
	"/poison": ["data: a\n\n", "data: poison\n\n", "data: b\n\n"],
};

const tokens = ({ data }: UpstreamEvent): EventPrice => {
	if (data === "[DONE]") return undefined;
	const { usage } = JSON.parse(data) as { usage?: { total_tokens: number } };
	return usage === undefined ? 1 : { total: usage.total_tokens };
};

const events = ({ data, event }: UpstreamEvent): EventPrice => {
	if (data === "poison") throw new Error("no price for this");
	return event === "other" ? 2n : 1;
};

const upstream = createServer(({ url = "" }, response) => void answer(url, response));
let asked = 0;
let left = 0;

async function answer(url: string, response: ServerResponse): Promise<void> {
	asked++;
	if (url === "/busy") {
		response.writeHead(429, { "content-type": "application/json", "x-secret": "s" }).end('{"error":"busy"}');
		return;
	}
	response.writeHead(200, { "content-type": "text/event-stream", "x-secret": "s" });
	if (url === "/endless") {
		response.on("close", () => left++);
		const timer = setInterval(() => response.write("data: more\n\n"), 5);
		response.on("close", () => clearInterval(timer));
		return;
	}
	for (const part of STREAMS[url] ?? []) {
		response.write(part);
		await new Promise((resolve) => setTimeout(resolve, 5));
	}
	response.end();
}

const world = useWorld();
let stage: MeteredStage;

const through = (path: string, price: (event: UpstreamEvent) => EventPrice) => async (meter: Meter) => {
	const { port } = upstream.address() as AddressInfo;
	return meterEvents(meter, await fetch(`http://127.0.0.1:${port}${path}`, { signal: meter.signal }), price);
};

beforeAll(async () => {
	vi.spyOn(console, "error").mockImplementation(() => undefined);
	await once(upstream.listen(0, "127.0.0.1"), "listening");
	const priced = ["/ragged", "/unfinished", "/paid", "/poison", "/endless", "/busy"].map((path) => {
		return [path, { metered: { stallMs: 100 }, serve: through(path, events) }] as const;
	});
	stage = await meteredStage(world, {
		...Object.fromEntries(priced),
		"/chat": { metered: { estimateUnits: 6 }, price: 10n, serve: through("/chat", tokens) },
		"/chat-cheap": { metered: true, serve: through("/chat-cheap", tokens) },
	});
});
afterAll(async () => {
	await stage.stop();
	upstream.closeAllConnections();
	upstream.close();
	vi.restoreAllMocks();
});
beforeEach(() => {
	asked = 0;
	left = 0;
});

describe.each(FACES)("an upstream's events through the %s face", (face) => {
	it.each([
		["/ragged", 4],
		["/unfinished", 2],
	])("%s go on byte for byte, and are charged before they leave: %i", async (path, units) => {
		const payer = await stage.payer(face);
		const { text, headers } = await payer.get(path, 100n);
		const sent = (STREAMS[path] ?? []).join("");
		expect(text.startsWith(sent), text).toBe(true);
		expect(text.slice(sent.length)).toMatch(/^\n\nevent: payment-receipt\ndata: [^\n]*\n\n$/);
		expect(headers).toMatchObject({ "content-type": "text/event-stream" });
		expect(headers["x-secret"], "what is between gateway and upstream").toBeUndefined();
		await payer.expectLedger(BigInt(units));
	});

	it("are stopped between two of them when nobody pays", async () => {
		const payer = await stage.payer(face);
		const { pieces, needs, isBroken } = await readEvents(await payer.read("/ragged", 2n));
		expect([pieces, isBroken]).toEqual([["a", "b"], true]);
		expect(needs).toMatchObject([{ requiredCumulative: 4n }]);
		await payer.expectLedger(2n);
	});

	it("about its own payment stay between the two of them, and cost nothing", async () => {
		const payer = await stage.payer(face);
		const { text } = await payer.get("/paid", 100n);
		expect(text).toMatch(/^data: a\n\ndata: b\n\ndata: c\n\n\n\nevent: payment-receipt\ndata: [^\n]*\n\n$/);
		await payer.expectLedger(3n);
	});

	it("count as tokens until the upstream says how many there were", async () => {
		const payer = await stage.payer(face);
		const { pieces, receipt } = await readEvents(await payer.read("/chat", 200n));
		expect(pieces).toHaveLength(6);
		expect(receipt).toMatchObject({ spent: 90n, units: 9 });
		await payer.expectLedger(90n);
	});

	it("cost what has left, where the upstream's own count is lower", async () => {
		const payer = await stage.payer(face);
		expect((await readEvents(await payer.read("/chat-cheap", 200n))).receipt).toMatchObject({ units: 2 });
	});

	it("cost what has left, where one of them has no price", async () => {
		const payer = await stage.payer(face);
		const { pieces, isBroken } = await readEvents(await payer.read("/poison", 200n));
		expect([pieces, isBroken]).toEqual([["a"], true]);
		await payer.expectLedger(1n);
	});

	it("are let go of when the client leaves", async () => {
		const payer = await stage.payer(face);
		const reader = await payer.read("/endless", 5_000n);
		await readEvents(reader, undefined, ({ length }) => length === 3);
		expect([asked, left]).toEqual([1, 0]);
		reader.leave();
		await expect.poll(() => left).toBe(1);
		await expect.poll(() => stage.server.amounts(payer.channel)).toMatchObject({ reserved: 0n });
		const { spent = 0n } = (await stage.server.amounts(payer.channel)) ?? {};
		expect(spent).toBeGreaterThanOrEqual(3n);
		await payer.expectI1();
	});

	it("that don't come: the upstream's refusal goes on, and costs nothing (I7)", async () => {
		const payer = await stage.payer(face);
		const answer = await payer.get("/busy", 10n);
		expect(answer).toMatchObject({ status: 429, json: { error: "busy" }, receipt: undefined });
		await payer.expectLedger(0n, 10n);
	});
});
