/** The bench's payers, a process of their own. */
import { setTimeout as pause } from "node:timers/promises";
import { createPublicClient, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { PaymentClient } from "../../src/client/index.ts";
import { Memory } from "./memory.ts";
import { type Delivered, type Order, obey, PRICE } from "./messages.ts";

type Open = Extract<Order, { order: "open" }>;

/** How long books may take to be complete after a stream's end. */
const LOOKS = 100;
const LOOK_MS = 100;

const OPENS_AT_A_TIME = 16;

function agents({ place, plan, url, payers, deposit }: Open): readonly PaymentClient[] {
	const { chainId, token, escrow, rpcUrl } = place;
	const client = createPublicClient({ transport: http(rpcUrl), pollingInterval: 50 });
	const policy = {
		chainIds: [chainId],
		tokens: [token],
		escrows: [escrow],
		hosts: [new URL(url).host],
		maxDeposit: deposit,
		maxPrice: PRICE,
		maxStream: deposit - PRICE,
	};
	const late: typeof fetch = async (input, init) => {
		const request = new Request(input, init);
		if (request.method === "HEAD" && plan.lateMs > 0) await pause(plan.lateMs);
		return fetch(request);
	};
	const stream = { aheadUnits: plan.ahead, stepUnits: plan.step };
	return payers.map(
		(key) => new PaymentClient({ account: privateKeyToAccount(key), client, policy, stream, fetch: late }),
	);
}

/** Each payer opens its channel by its first request: an authorization, which the server sends to the chain. */
async function open(order: Open) {
	const startedAt = performance.now();
	const opening = agents(order);
	const left = [...opening];
	const opener = async () => {
		for (let agent = left.pop(); agent !== undefined; agent = left.pop()) {
			const response = await agent.fetch(`${order.url}/open`);
			await response.arrayBuffer();
			if (!response.ok) throw new Error(`a channel was not opened: ${response.status}`);
		}
	};
	await Promise.all(Array.from({ length: OPENS_AT_A_TIME }, opener));
	return { opened: opening, seconds: (performance.now() - startedAt) / 1_000 };
}

async function read(agent: PaymentClient, url: string): Promise<Delivered> {
	let pieces = 0;
	for await (const { id } of agent.stream(`${url}/stream`))
		if (Number(id) !== ++pieces) throw new Error(`piece ${id} came in the place of ${pieces}`);
	const [channel] = agent.channels;
	if (channel === undefined) throw new Error("the payer has no channel");
	// The answer to its last voucher may come after the stream has ended: until then it is not in the books.
	for (let look = 0; look < LOOKS && channel.consumed !== PRICE * BigInt(pieces + 1); look++) await pause(LOOK_MS);
	const { channelId, consumed, signed } = channel;
	return { channelId, pieces, consumed, signed };
}

let ready: Readonly<{ order: Open; opened: readonly PaymentClient[] }> | undefined;

obey(async (order) => {
	if (order.order === "open") {
		const { opened, seconds } = await open(order);
		ready = { order, opened };
		return { seconds };
	}
	if (order.order !== "stream" || ready === undefined) throw new Error(`payers do not ${order.order} now`);
	const { url, plan } = ready.order;
	const memory = new Memory(1_000 * (plan.seconds > 0 ? plan.seconds : plan.pieces / 40_000));
	const channels = await Promise.all(ready.opened.map((agent) => read(agent, url)));
	return { channels, ...memory.stop() };
});
