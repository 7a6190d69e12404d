/** What runs in the page: a payer with a purse of its own. The test calls `payer`, and gets plain data back. */
import { PaymentClient } from "sluice/client";
import { accountFromProvider, openIndexedDbStore } from "sluice/client/browser";
import { createPublicClient, type Hex, http } from "viem";
import { InjectedWallet } from "./injected.ts";
import { openPurse } from "./purse.ts";

/** Where the page pays and what it may; amounts in decimal. */
export type PageSettings = Readonly<{
	rpcUrl: string;
	chainId: number;
	token: string;
	escrow: string;
	hosts: readonly string[];
	maxDeposit: string;
	maxPrice: string;
	maxChannels: number;
	/** With a wallet that an extension has put into the page, in place of the page's own key. */
	isInjected: boolean;
}>;

/** How a paid request was answered. */
export type PageAnswer = Readonly<{ status: number; receipt: string | null; body: unknown }>;

export type ClosedInPage = Readonly<{ channelId: Hex; spent: string }>;

let client: PaymentClient | undefined;
let injected: InjectedWallet | undefined;
let answered = 0;

function started(): PaymentClient {
	if (client === undefined) throw new Error("start it first");
	return client;
}

const pays = {
	address: async (): Promise<string> => (await openPurse()).address,

	async start(settings: PageSettings): Promise<void> {
		const { rpcUrl, chainId, token, escrow, hosts, maxDeposit, maxPrice, maxChannels, isInjected } = settings;
		const purse = await openPurse();
		if (isInjected) injected = new InjectedWallet(purse, chainId);
		client = new PaymentClient({
			account: injected === undefined ? purse : await accountFromProvider(injected),
			client: createPublicClient({ transport: http(rpcUrl), pollingInterval: 50, cacheTime: 0 }),
			policy: {
				chainIds: [chainId],
				tokens: [token],
				escrows: [escrow],
				hosts: [...hosts],
				maxDeposit: BigInt(maxDeposit),
				maxPrice: BigInt(maxPrice),
				maxStream: BigInt(maxDeposit),
				maxChannels,
			},
			store: await openIndexedDbStore("purse"),
		});
	},

	/** Pays for `url` so many times, `atOnce` at a time. */
	async pay(url: string, count: number, atOnce: number): Promise<readonly PageAnswer[]> {
		const { fetch } = started();
		const answers: PageAnswer[] = [];
		let asked = 0;
		const ask = async () => {
			while (asked++ < count) {
				const response = await fetch(url);
				const body = await response.json();
				answered++;
				answers.push({ status: response.status, receipt: response.headers.get("Payment-Receipt"), body });
			}
		};
		await Promise.all(Array.from({ length: atOnce }, ask));
		return answers;
	},

	/** The data of a stream's events. */
	async stream(url: string): Promise<readonly string[]> {
		const all: string[] = [];
		for await (const { data } of started().stream(url)) all.push(data);
		return all;
	},

	async close(): Promise<readonly ClosedInPage[]> {
		const closed = await started().close();
		return closed.map(({ channel, receipt }) => ({ channelId: channel.channelId, spent: String(receipt.spent) }));
	},

	/** How many requests were answered since the page was loaded. */
	answered: (): number => answered,

	/** Asks while the injected wallet's owner says no to everything. Resolves to the code of what went wrong. */
	async refused(url: string): Promise<string | undefined> {
		if (injected === undefined) throw new Error("no wallet was injected");
		injected.isRefusing = true;
		try {
			await started().fetch(url);
			return undefined;
		} catch (error) {
			return String((error as { code?: unknown }).code ?? error);
		} finally {
			injected.isRefusing = false;
		}
	},

	/** How often the injected wallet was asked for a signature, and how often it signed. */
	asked: () => ({
		asked: injected?.asked.filter((method) => method === "eth_signTypedData_v4").length ?? 0,
		signed: injected?.signatures ?? 0,
	}),
};

/** What the test may call. */
export type PagePayer = typeof pays;

declare global {
	/** Of the page alone. */
	var payer: PagePayer;
}
globalThis.payer = pays;
