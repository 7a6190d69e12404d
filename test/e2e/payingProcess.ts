/**
 * A process of an agent, which pays with the wallet it is given and dies where it is told to. Reads what it is to do as one
 * JSON line from standard input, the key included, and tells as JSON lines what it does. A line is out before what it tells
 * of begins, so that nothing is untold when it dies.
 */

import { once } from "node:events";
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import {
	type Address,
	createPublicClient,
	type Hex,
	http,
	type LocalAccount,
	type Transport,
	toFunctionSelector,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { PaymentClient } from "../../src/client/index.ts";
import { openWallet } from "../../src/client/node/wallet.ts";
import type { PayerStore } from "../../src/client/store/store.ts";

/**
 * What it does, one after the other. `pay 3`: three requests at once. `forget`: the server loses its record of the channel.
 * `requestClose`: of what the server has forgotten. `wait`: until it is killed.
 */
export type Step = "pay" | "pay 3" | "pay held" | "charge" | "release" | "forget" | "requestClose" | "close" | "wait";

/** Around a call of the store (by its name), a request (`fetch`) or a transaction (`broadcast`), the `nth` of its kind. */
export type Moment = Readonly<{ when: "before" | "after"; what: string; nth: number }>;

export type Order = Readonly<{
	rpcUrl: string;
	chainId: number;
	token: Address;
	escrow: Address;
	url: string;
	wallet: string;
	key: Hex;
	maxDeposit: string;
	/** The limit of all that may ever be signed. */
	limit?: string;
	/** What it pays with; by default all that it can. */
	types?: readonly string[];
	/** Names its requests. */
	life: string;
	steps: readonly Step[];
	dieAt?: Moment;
}>;

/** What it tells. */
export type Said =
	| Readonly<{ moment: string; step: number }>
	| Readonly<{ begins: string }>
	| Readonly<{ ends: string; status?: number; body?: unknown; error?: string }>
	| Readonly<{ signs: "voucher"; channelId: Hex; amount: string }>
	| Readonly<{ signs: "charge" | "deposit"; amount: string }>
	| Readonly<{ closed: readonly Hex[] }>
	| Readonly<{ died: string }>
	| Readonly<{ failed: string }>
	| Readonly<{ done: true }>;

/** A transfer of the payer's own, as calls of tokens begin. */
const TRANSFER = toFunctionSelector("transfer(address,uint256)");

const say = (said: Said) => void writeSync(1, `${JSON.stringify(said)}\n`);

/** Counts what happens, and ends the process at one moment of it. */
class Moments {
	readonly #dieAt: Moment | undefined;
	readonly #counts = new Map<string, number>();
	/** Which step it is at. */
	step = 0;

	constructor(dieAt: Moment | undefined) {
		this.#dieAt = dieAt;
	}

	async around<T>(what: string, task: () => Promise<T>): Promise<T> {
		const nth = (this.#counts.get(what) ?? 0) + 1;
		this.#counts.set(what, nth);
		say({ moment: `${what} ${nth}`, step: this.step });
		this.#reach({ when: "before", what, nth });
		const result = await task();
		this.#reach({ when: "after", what, nth });
		return result;
	}

	#reach({ when, what, nth }: Moment): void {
		const { when: then, what: named, nth: which } = this.#dieAt ?? {};
		if (when !== then || what !== named || nth !== which) return;
		say({ died: `${when} ${what} ${nth}` });
		process.kill(process.pid, "SIGKILL");
		// Nothing after it runs.
		for (;;);
	}
}

function watchedStore(store: PayerStore, moments: Moments): PayerStore {
	return new Proxy(store, {
		get(target, name) {
			const member = Reflect.get(target, name) as unknown;
			if (typeof member !== "function") return member;
			if (name === "onWanted") return member.bind(target);
			return (...args: unknown[]) => moments.around(String(name), () => member.apply(target, args));
		},
	});
}

function watchedAccount(account: LocalAccount): LocalAccount {
	return {
		...account,
		signTypedData: (typedData) => {
			const { primaryType, message } = typedData as unknown as {
				primaryType: string;
				message: { channelId: Hex; cumulativeAmount: bigint; value: bigint };
			};
			if (primaryType === "Voucher")
				say({ signs: "voucher", channelId: message.channelId, amount: String(message.cumulativeAmount) });
			else
				say({
					signs: primaryType === "TransferWithAuthorization" ? "charge" : "deposit",
					amount: String(message.value),
				});
			return account.signTypedData(typedData);
		},
		signTransaction: (transaction, ...rest) => {
			const { data = "0x" } = transaction as { data?: Hex };
			if (data.startsWith(TRANSFER)) say({ signs: "charge", amount: String(BigInt(`0x${data.slice(-64)}`)) });
			return account.signTransaction(transaction, ...rest);
		},
	};
}

function watchedTransport(transport: Transport, moments: Moments): Transport {
	return (parameters) => {
		const inner = transport(parameters);
		const request = (args: { method: string }): Promise<unknown> => {
			const send = () => inner.request(args as never) as Promise<unknown>;
			return args.method === "eth_sendRawTransaction" ? moments.around("broadcast", send) : send();
		};
		return { ...inner, request: request as typeof inner.request };
	};
}

async function main(): Promise<void> {
	const lines = createInterface({ input: process.stdin });
	const [line] = (await once(lines, "line")) as [string];
	const { rpcUrl, chainId, token, escrow, url, wallet, key, maxDeposit, limit, types, life, steps, dieAt } = JSON.parse(
		line,
	) as Order;
	const moments = new Moments(dieAt);
	const transport = watchedTransport(http(rpcUrl), moments);
	const store = watchedStore(await openWallet(wallet), moments);
	const agent = new PaymentClient({
		account: watchedAccount(privateKeyToAccount(key)),
		client: createPublicClient({ transport, pollingInterval: 20, cacheTime: 0 }),
		policy: {
			chainIds: [chainId],
			tokens: [token],
			escrows: [escrow],
			hosts: [new URL(url).host],
			maxDeposit: BigInt(maxDeposit),
			maxPrice: 1_000n,
			...(limit !== undefined && { limits: { total: { ever: BigInt(limit) } } }),
		},
		fetch: (request) => moments.around("fetch", () => fetch(request)),
		...(types !== undefined && { credentialTypes: types }),
		retry: { retries: 5, minDelayMs: 20, maxDelayMs: 200 },
		store,
	});

	let requests = 0;
	const pay = async (path: string): Promise<void> => {
		const name = `${life}.${++requests}`;
		say({ begins: name });
		try {
			const response = await agent.fetch(`${url}${path}?n=${name}`, { headers: { "Idempotency-Key": name } });
			say({ ends: name, status: response.status, body: await response.json() });
		} catch (error) {
			const { code, rule } = error as { code?: string; rule?: string };
			say({ ends: name, error: code === undefined ? String(error) : [code, rule].filter(Boolean).join(" ") });
		}
	};
	const forgotten = async () =>
		(await store.list()).flatMap(({ record }) => (record.status === "forgotten" ? [record.state.channelId] : []));
	const doStep: Readonly<Record<Step, () => Promise<unknown>>> = {
		pay: () => pay("/session"),
		"pay 3": () => Promise.all([1, 2, 3].map(() => pay("/session"))),
		"pay held": () => pay("/held"),
		charge: () => pay("/charge"),
		release: () => agent.release(),
		async forget() {
			const ids = agent.channels.map(({ channelId }) => channelId).join();
			await fetch(`${url}/forget?channels=${ids}`);
		},
		async requestClose() {
			for (const channelId of await forgotten()) await agent.requestClose(channelId);
		},
		async close() {
			say({ closed: (await agent.close()).map(({ channel }) => channel.channelId) });
		},
		wait: () => new Promise((resolve) => setTimeout(resolve, 60_000)),
	};
	for (const step of steps) {
		await doStep[step]();
		moments.step++;
	}
	await agent.release();
	await store.close();
	say({ done: true });
	lines.close();
}

await main().catch((error: unknown) => {
	say({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) });
	process.exitCode = 1;
});
