import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** A chain's RPC in front of the real one, which fails a part of all calls by closing the socket, as a bad provider does. */
export type FaultyRpc = Readonly<{
	url: string;
	/** From now on this part of all calls fails: 0 none, 1 all. Counts begin anew. */
	failing(share: number): void;
	/** How many calls there were, and how many of them failed. */
	counts(): Readonly<{ calls: number; failed: number }>;
	stop(): Promise<void>;
}>;

/** @param seed which calls fail: the same ones for the same seed, as far as they come in the same order */
export async function startFaultyRpc(target: string, seed: number): Promise<FaultyRpc> {
	const next = randomNumbers(seed);
	let share = 0;
	let calls = 0;
	let failed = 0;
	const server = createServer(async (request, response) => {
		try {
			const chunks: Buffer[] = [];
			for await (const chunk of request) chunks.push(chunk as Buffer);
			calls++;
			const fails = next() < share;
			// Half of those that fail do reach the chain: only their answer is lost.
			const reaches = !fails || next() < 0.5;
			if (fails) failed++;
			const headers = { "content-type": "application/json" };
			const answer = reaches
				? await fetch(target, { method: "POST", body: Buffer.concat(chunks), headers })
				: undefined;
			const text = await answer?.text();
			if (fails) request.socket.destroy();
			else response.writeHead(200, headers).end(text);
		} catch {
			request.socket.destroy();
		}
	});
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	return {
		url: `http://127.0.0.1:${port}`,
		failing(part) {
			share = part;
			calls = 0;
			failed = 0;
		},
		counts: () => ({ calls, failed }),
		async stop() {
			server.closeAllConnections();
			server.close();
			await once(server, "close");
		},
	};
}

/** Evenly spread between 0 and 1, the same for the same seed (xorshift). */
function randomNumbers(seed: number): () => number {
	let state = seed >>> 0 || 1;
	return () => {
		state ^= state << 13;
		state >>>= 0;
		state ^= state >>> 17;
		state ^= state << 5;
		state >>>= 0;
		return state / 2 ** 32;
	};
}
