/** What runs in the page: a payer with a purse of its own. The test calls `payer`, and gets plain data back. */
import { PaymentClient } from "sluice/client";
import { createPublicClient, type Hex, http } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

/** Where the page pays and what it may; amounts in decimal. */
export type PageSettings = Readonly<{
	rpcUrl: string;
	chainId: number;
	token: string;
	escrow: string;
	hosts: readonly string[];
	maxDeposit: string;
	maxPrice: string;
}>;

/** How a paid request was answered. */
export type PageAnswer = Readonly<{ status: number; receipt: string | null; body: unknown }>;

export type ClosedInPage = Readonly<{ channelId: Hex; spent: string; txHash: string | undefined }>;

let client: PaymentClient | undefined;

/** The key stays in the page, as a visitor's would. */
function purse() {
	const key = (localStorage.getItem("purse") ?? generatePrivateKey()) as Hex;
	localStorage.setItem("purse", key);
	return privateKeyToAccount(key);
}

function started(): PaymentClient {
	if (client === undefined) throw new Error("start it first");
	return client;
}

const pays = {
	address: (): string => purse().address,

	start({ rpcUrl, chainId, token, escrow, hosts, maxDeposit, maxPrice }: PageSettings): void {
		client = new PaymentClient({
			account: purse(),
			client: createPublicClient({ transport: http(rpcUrl), pollingInterval: 50, cacheTime: 0 }),
			policy: {
				chainIds: [chainId],
				tokens: [token],
				escrows: [escrow],
				hosts: [...hosts],
				maxDeposit: BigInt(maxDeposit),
				maxPrice: BigInt(maxPrice),
				maxStream: BigInt(maxDeposit),
			},
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
		return closed.map(({ channel, receipt: { spent, txHash } }) => ({
			channelId: channel.channelId,
			spent: String(spent),
			txHash,
		}));
	},
};

/** What the test may call. */
export type PagePayer = typeof pays;

declare global {
	/** Of the page alone. */
	var payer: PagePayer;
}
globalThis.payer = pays;
