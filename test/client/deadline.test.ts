/** How long one logical request may take, and what it costs when its answer is late. */

import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { DeadlineError } from "../../src/client/index.ts";
import { useWorld } from "../support/useWorld.ts";
import { type PaidServer, PRICE } from "../support/world.ts";
import { clientFor, QUICK, scriptedServer } from "./support.ts";

const world = useWorld();
let server: PaidServer;
beforeAll(async () => {
	server = await world.serve();
});

async function payerWith(deadlineMs: number, url = server.url) {
	const { account, address } = await world.payer();
	const payer = clientFor(world, account, [new URL(url).host], {}, { retry: { ...QUICK, deadlineMs } });
	return { payer, spent: async () => 1_000_000n - (await world.balance(address)) };
}

describe("a request with a deadline", () => {
	it("ends with its own error when its answer is late; asked again with its key it costs nothing more (I6)", async () => {
		const { payer, spent } = await payerWith(2_000);
		await (await payer.fetch(`${server.url}/session`)).text();
		const gate = server.hold("/session");
		const late = await payer.fetch(`${server.url}/session`).catch((error: unknown) => error);
		expect(late).toBeInstanceOf(DeadlineError);
		await gate.entered;
		gate.release();
		const { idempotencyKey } = late as DeadlineError;
		const again = await payer.fetch(`${server.url}/session`, { headers: { "idempotency-key": idempotencyKey } });
		expect(again.status).toBe(200);
		await payer.close();
		expect(await spent()).toBe(2n * PRICE);
	});

	it("counts all its tries and pauses", async () => {
		const busy = await scriptedServer(() => ({ status: 503, headers: { "retry-after": "1" } }));
		const { payer } = await payerWith(300, busy.url);
		await expect(payer.fetch(`${busy.url}/`)).rejects.toMatchObject({ code: "DEADLINE", deadlineMs: 300 });
		expect(busy.calls.length).toBeLessThan(3);
		await busy.stop();
	});

	it("may take as long as it takes to read what has begun", async () => {
		const slow = vi.fn();
		const begun = new Response(new ReadableStream({ pull: slow }, { highWaterMark: 0 }));
		const { account } = await world.payer();
		const payer = clientFor(world, account, ["localhost"], {}, { fetch: async () => begun, retry: { deadlineMs: 50 } });
		const response = await payer.fetch("http://localhost/");
		await new Promise((resolve) => setTimeout(resolve, 120));
		slow.mockImplementation((controller: ReadableStreamDefaultController) => {
			controller.enqueue(new TextEncoder().encode("all of it"));
			controller.close();
		});
		expect(await response.text()).toBe("all of it");
	});

	it("ends with the caller's own reason where that comes first", async () => {
		const { payer } = await payerWith(20_000);
		const reason = new Error("enough");
		await expect(payer.fetch(`${server.url}/session`, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
	});
});

afterAll(() => server?.hold("/session").release());
