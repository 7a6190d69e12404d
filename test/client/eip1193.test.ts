import { type Address, type Hex, type LocalAccount, numberToHex, type TypedDataDefinition } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accountFromProvider, type Provider } from "../../src/client/browser/eip1193.ts";
import { MemoryPayerStore, type PaymentClient } from "../../src/client/index.ts";
import { ZERO_ADDRESS } from "../../src/voucher/index.ts";
import { relays } from "./relays.ts";
import { createStage, type Stage } from "./stage.ts";
import { clientFor, codeOf } from "./support.ts";

let stage: Stage;
beforeAll(async () => {
	stage = await createStage();
});
afterAll(() => stage.stop());
const relayed = relays(() => stage);

type Asked = Readonly<{ method: string; params: readonly unknown[] }>;

/** What a wallet's errors look like. */
const failure = (code: number, message = "no") => Object.assign(new Error(message), { code });

/** A wallet in a browser, with real keys: it signs and sends what its owner does not refuse. */
class BrowserWallet implements Provider {
	readonly asked: Asked[] = [];
	accounts: LocalAccount[];
	chainId: number;
	knownChains: number[];
	/** What its owner, or the wallet, says to a method: an error to refuse with. */
	refuse: (method: string) => Error | undefined = () => undefined;
	readonly #listeners = new Set<(accounts: never) => void>();

	constructor(accounts: LocalAccount[], chainId: number) {
		this.accounts = accounts;
		this.chainId = chainId;
		this.knownChains = [chainId];
	}

	methods(...names: readonly string[]): readonly string[] {
		return this.asked.map(({ method }) => method).filter((method) => names.includes(method));
	}

	get listeners(): number {
		return this.#listeners.size;
	}

	on(_event: string, listener: (accounts: never) => void): void {
		this.#listeners.add(listener);
	}

	removeListener(_event: string, listener: (accounts: never) => void): void {
		this.#listeners.delete(listener);
	}

	change(accounts: LocalAccount[]): void {
		this.accounts = accounts;
		for (const listener of this.#listeners) listener(accounts.map(({ address }) => address) as never);
	}

	async request({ method, params = [] }: Readonly<{ method: string; params?: readonly unknown[] }>): Promise<unknown> {
		this.asked.push({ method, params });
		const refusal = this.refuse(method);
		if (refusal !== undefined) throw refusal;
		switch (method) {
			case "eth_requestAccounts":
			case "eth_accounts":
				return this.accounts.map(({ address }) => address);
			case "eth_chainId":
				return numberToHex(this.chainId);
			case "wallet_switchEthereumChain": {
				const [{ chainId }] = params as [{ chainId: Hex }];
				if (!this.knownChains.includes(Number(chainId))) throw failure(4902);
				this.chainId = Number(chainId);
				return null;
			}
			case "eth_signTypedData_v4": {
				const [address, json] = params as [Address, string];
				const { domain, types, primaryType, message } = JSON.parse(json) as TypedDataDefinition & { message: object };
				// As wallets do: what is for another chain is not signed.
				if (Number(domain?.chainId) !== this.chainId) throw failure(-32603, "another chain");
				return this.#account(address).signTypedData({ domain, types, primaryType, message } as TypedDataDefinition);
			}
			case "eth_sendTransaction": {
				const [{ from, to, data }] = params as [{ from: Address; to: Address; data: Hex }];
				return stage.send({ to, data }, this.#account(from));
			}
			default:
				throw failure(4200);
		}
	}

	#account(address: Address): LocalAccount {
		const account = this.accounts.find((one) => one.address.toLowerCase() === address.toLowerCase());
		if (account === undefined) throw failure(4100);
		return account;
	}
}

/** What makes a signature or a transaction. */
const SIGNING = ["eth_signTypedData_v4", "eth_sendTransaction"] as const;

async function walletOf(options: Parameters<Stage["payer"]>[0] = {}): Promise<BrowserWallet> {
	return new BrowserWallet([await stage.payer(options)], stage.chain.chainId);
}

async function paid(payer: PaymentClient, url: string, times = 1): Promise<void> {
	for (let n = 0; n < times; n++) expect(await (await payer.fetch(url)).text()).toBe("served");
}

describe("a wallet in the browser pays", () => {
	it("with one question for a deposit and none for vouchers, which a key of the channel's own signs", async () => {
		const { relay, server } = await relayed();
		const wallet = await walletOf();
		const account = await accountFromProvider(wallet);
		const payer = clientFor(stage, account, [server.host]);
		await paid(payer, server.url, 5);
		expect(wallet.methods(...SIGNING)).toEqual(["eth_signTypedData_v4"]);
		const [channel] = payer.channels;
		const onChain = await stage.onChain(channel?.channelId ?? "0x");
		expect(onChain?.payer).toBe(account.address);
		expect([ZERO_ADDRESS, account.address, relay.address]).not.toContain(onChain?.authorizedSigner);
		await payer.close();
		expect(wallet.methods(...SIGNING)).toHaveLength(1);
		expect(await stage.balance(relay.address)).toBe(500n);
	});

	it("by transactions of its own where the server takes no authorization, and tells the server of them", async () => {
		const { relay, server } = await relayed({ details: { credentialTypes: ["hash"] } });
		const wallet = await walletOf({ gas: true });
		const payer = clientFor(stage, await accountFromProvider(wallet), [server.host], { maxDeposit: 300n });
		await paid(payer, server.url, 5);
		// An approval and an opening, an approval and a top-up.
		expect(wallet.methods(...SIGNING)).toEqual(Array(4).fill("eth_sendTransaction"));
		expect(relay.executed).toEqual(["topUp hash"]);
		await payer.close();
		expect(await stage.balance(relay.address)).toBe(500n);
	});

	it("charges: by its signature, by Permit2 as EIP-712 has it, by its own transfer, and never by what it can't make", async () => {
		for (const [credentialTypes, form] of [
			[["authorization"], "authorization"],
			[["permit2"], "permit2"],
			[["transaction", "hash"], "hash"],
		] as const) {
			const { relay, server } = await relayed({ offers: (one) => [one.charge({ credentialTypes })] });
			const wallet = await walletOf({ gas: true, permit2: 1_000n });
			await paid(clientFor(stage, await accountFromProvider(wallet), [server.host]), server.url);
			expect(server.payloads().map(({ type }) => type)).toEqual([form]);
			expect(await stage.balance(relay.address)).toBe(100n);
		}
		const { server } = await relayed({ offers: (one) => [one.charge({ credentialTypes: ["transaction"] })] });
		const wallet = await walletOf({ gas: true });
		const payer = clientFor(stage, await accountFromProvider(wallet), [server.host]);
		await expect(payer.fetch(server.url)).rejects.toMatchObject({ code: "POLICY_REFUSED", rule: "credential" });
		expect(wallet.methods(...SIGNING)).toEqual([]);
	});

	it("from the account that was chosen, whichever the wallet has first", async () => {
		const { server } = await relayed();
		const other = await stage.payer();
		const own = await stage.payer();
		const wallet = new BrowserWallet([other, own], stage.chain.chainId);
		expect((await accountFromProvider(wallet)).address).toBe(other.address.toLowerCase());
		const account = await accountFromProvider(wallet, own.address);
		await paid(clientFor(stage, account, [server.host]), server.url);
		expect(server.payloads("open")[0]?.authorization).toMatchObject({ from: own.address.toLowerCase() });
	});
});

describe("the chain of a wallet in the browser", () => {
	it("is changed to the one that is paid on before anything is signed", async () => {
		const { server } = await relayed();
		const wallet = await walletOf();
		wallet.chainId = 1;
		const payer = clientFor(stage, await accountFromProvider(wallet), [server.host]);
		await paid(payer, server.url);
		expect(wallet.methods("wallet_switchEthereumChain", ...SIGNING)).toEqual([
			"wallet_switchEthereumChain",
			"eth_signTypedData_v4",
		]);
		// Its owner changes it between two deposits.
		await payer.close();
		wallet.chainId = 1;
		await paid(payer, server.url);
		expect(wallet.methods("wallet_switchEthereumChain")).toHaveLength(2);
	});

	it("that it does not know, or does not change to, is said: nothing is signed", async () => {
		const { server } = await relayed();
		const unknown = await walletOf();
		unknown.chainId = 1;
		unknown.knownChains = [1];
		const stubborn = await walletOf();
		stubborn.chainId = 1;
		Object.defineProperty(stubborn, "chainId", { get: () => 1, set: () => undefined });
		for (const wallet of [unknown, stubborn]) {
			const payer = clientFor(stage, await accountFromProvider(wallet), [server.host]);
			await expect(payer.fetch(server.url)).rejects.toMatchObject({ code: "PROVIDER", reason: "chain" });
			expect(wallet.methods(...SIGNING)).toEqual([]);
		}
	});
});

describe("what the owner of a wallet refuses", () => {
	it("to connect is a typed error", async () => {
		const wallet = await walletOf();
		wallet.refuse = () => failure(4001);
		expect(await codeOf(accountFromProvider(wallet))).toBe("USER_REJECTED");
	});

	it("to sign is a typed error, and nothing else is asked for in its place", async () => {
		const { relay, server } = await relayed();
		// It could pay in any way.
		const wallet = await walletOf({ gas: true, permit2: 1_000_000n });
		const payer = clientFor(stage, await accountFromProvider(wallet), [server.host]);
		wallet.refuse = (method) => (method === "eth_signTypedData_v4" ? failure(4001) : undefined);
		expect(await codeOf(payer.fetch(server.url))).toBe("USER_REJECTED");
		expect(wallet.methods(...SIGNING)).toEqual(["eth_signTypedData_v4"]);
		expect(server.payloads()).toEqual([]);
		expect(relay.executed).toEqual([]);
		// Whoever changes their mind is asked once more.
		wallet.refuse = () => undefined;
		await paid(payer, server.url, 2);
		expect(wallet.methods(...SIGNING)).toHaveLength(2);
	});

	it("of a transaction is a typed error as well, also where another wallet wraps it", async () => {
		const { server } = await relayed({ details: { credentialTypes: ["hash"] } });
		const wallet = await walletOf({ gas: true });
		const store = new MemoryPayerStore();
		const payer = clientFor(stage, await accountFromProvider(wallet), [server.host], {}, { store });
		wallet.refuse = (method) =>
			method === "eth_sendTransaction"
				? Object.assign(failure(-32603), { data: { originalError: { code: 4001 } } })
				: undefined;
		expect(await codeOf(payer.fetch(server.url))).toBe("USER_REJECTED");
		expect(wallet.methods(...SIGNING)).toEqual(["eth_sendTransaction"]);
		wallet.refuse = () => undefined;
		await paid(payer, server.url, 2);
		expect(wallet.methods(...SIGNING)).toHaveLength(3);
		expect(await store.list()).toHaveLength(1);
	});
});

describe("an account of a wallet in the browser", () => {
	it("that the wallet takes away signs nothing until it is back, and whoever asked to is told", async () => {
		const { server } = await relayed();
		const wallet = await walletOf();
		const heard: boolean[] = [];
		const account = await accountFromProvider(wallet, undefined, { onConnected: (is) => heard.push(is) });
		const payer = clientFor(stage, account, [server.host]);
		const mine = wallet.accounts;
		wallet.change([privateKeyToAccount(generatePrivateKey())]);
		expect(account.isConnected()).toBe(false);
		await expect(payer.fetch(server.url)).rejects.toMatchObject({ code: "PROVIDER", reason: "account" });
		expect(wallet.methods(...SIGNING)).toEqual([]);
		wallet.change(mine);
		await paid(payer, server.url);
		expect(heard).toEqual([false, true]);
		account.disconnect();
		expect(wallet.listeners).toBe(0);
	});

	it("that is gone without a word is noticed before the next signature", async () => {
		const { server } = await relayed();
		const wallet = await walletOf();
		const account = await accountFromProvider(wallet);
		const payer = clientFor(stage, account, [server.host]);
		wallet.accounts = [];
		await expect(payer.fetch(server.url)).rejects.toMatchObject({ code: "PROVIDER", reason: "account" });
		expect(wallet.methods(...SIGNING)).toEqual([]);
	});

	it("that the wallet does not have is refused when it is asked for", async () => {
		const wallet = await walletOf();
		expect(await codeOf(accountFromProvider(wallet, `0x${"12".repeat(20)}`))).toBe("PROVIDER");
		expect(await codeOf(accountFromProvider(new BrowserWallet([], 1)))).toBe("PROVIDER");
	});

	it("whose wallet fails or answers nonsense is a typed error that repeats none of it", async () => {
		const { server } = await relayed();
		for (const answer of [failure(-32000, "seed: twelve words"), "0xnothex", 7, null]) {
			const wallet = await walletOf();
			const request = wallet.request.bind(wallet);
			wallet.request = async (call) => {
				if (call.method !== "eth_signTypedData_v4") return request(call);
				if (answer instanceof Error) throw answer;
				return answer;
			};
			const payer = clientFor(stage, await accountFromProvider(wallet), [server.host]);
			await expect(payer.fetch(server.url)).rejects.toMatchObject({
				code: "PROVIDER",
				reason: "failed",
				message: expect.not.stringContaining("twelve words"),
			});
			expect(server.payloads()).toEqual([]);
		}
	});
});
