import { type Address, getTypesForEIP712Domain, type Hex, serializeTypedData, type TypedDataDefinition } from "viem";
import type { AccountCall, SendingAccount } from "../account.ts";

/** A wallet in the browser, as EIP-1193 has it: `window.ethereum`, or one that was announced (EIP-6963). */
export type Provider = Readonly<{
	request(call: Readonly<{ method: string; params?: readonly unknown[] }>): Promise<unknown>;
	on?(event: string, listener: (value: never) => void): unknown;
	removeListener?(event: string, listener: (value: never) => void): unknown;
}>;

/** What providers answer errors with (EIP-1193, EIP-3085). */
const REJECTED = 4_001;
const UNAUTHORIZED = 4_100;
const UNKNOWN_CHAIN = 4_902;

/** The wallet's owner said no. Nothing was signed or sent, and nothing else is asked for instead. */
export class UserRejectedError extends Error {
	override readonly name = "UserRejectedError";
	readonly code = "USER_REJECTED";
	constructor(what: string) {
		super(`the wallet's owner refused ${what}; nothing was signed`);
	}
}

/**
 * The wallet can't do what it is asked for: it has another account (`account`), it does not change to the chain (`chain`), or it
 * failed (`failed`). What a wallet says of it may hold anything: it is only in `cause`.
 */
export class ProviderError extends Error {
	override readonly name = "ProviderError";
	readonly code = "PROVIDER";
	readonly reason: "account" | "chain" | "failed";
	constructor(reason: ProviderError["reason"], detail: string, cause?: unknown) {
		super(`wallet: ${detail}`, cause === undefined ? undefined : { cause });
		this.reason = reason;
	}
}

/** An account of a wallet in the browser. */
export type ProviderAccount = SendingAccount &
	Readonly<{
		/** Whether the wallet has this account still, as far as it has told. Each signature asks it anew. */
		isConnected(): boolean;
		/** Stops listening to the wallet. */
		disconnect(): void;
	}>;

export type ProviderAccountOptions = Readonly<{
	/** Told when the wallet takes this account away or gives it back. */
	onConnected?: (isConnected: boolean) => void;
	/** Of a contract wallet: see {@link SendingAccount}. */
	contractSignatures?: boolean;
}>;

/**
 * An account of an EIP-1193 wallet that pays in a browser. The wallet asks its owner about each deposit and each charge, not
 * about vouchers: by default each channel gets a key of its own for those. Before anything is signed or sent the wallet has
 * to have this account, and to be on the chain in question; it is asked to change to it.
 *
 * @param address - which of the wallet's accounts; the first one unless it is given
 * @throws UserRejectedError when its owner does not want to connect
 * @throws ProviderError (`account`) when the wallet has no such account
 * @example
 * const account = await accountFromProvider(window.ethereum);
 * const payer = new PaymentClient({ account, client, policy, store: await openIndexedDbStore("wallet") });
 */
export async function accountFromProvider(
	provider: Provider,
	address?: Address,
	{ onConnected = () => undefined, contractSignatures = false }: ProviderAccountOptions = {},
): Promise<ProviderAccount> {
	const offered = accountsOf(await ask(provider, "to connect", "eth_requestAccounts"));
	const own = address === undefined ? offered[0] : offered.find((one) => one === lower(address));
	if (own === undefined)
		throw new ProviderError("account", address === undefined ? "it has no account" : `it does not have ${address}`);
	let isConnected = true;
	const hear = (accounts: unknown) => {
		const has = accountsOf(accounts).includes(own);
		if (has === isConnected) return;
		isConnected = has;
		onConnected(has);
	};
	provider.on?.("accountsChanged", hear);
	const ready = async (chainId: number) => {
		hear(await ask(provider, "to say which accounts it has", "eth_accounts"));
		if (!isConnected) throw new ProviderError("account", `it does not have ${own} any more; connect it again`);
		await changeTo(provider, chainId);
	};
	return {
		address: own,
		contractSignatures,
		isConnected: () => isConnected,
		disconnect: () => void provider.removeListener?.("accountsChanged", hear),
		async signTypedData(definition) {
			const typedData = definition as unknown as TypedDataDefinition;
			const { domain, primaryType } = typedData;
			if (domain?.chainId === undefined) throw new ProviderError("chain", "what is to be signed names no chain");
			await ready(Number(domain.chainId));
			const types = { EIP712Domain: getTypesForEIP712Domain({ domain }), ...typedData.types };
			const json = serializeTypedData({ ...typedData, types } as unknown as TypedDataDefinition);
			return hexOf(await ask(provider, `to sign ${String(primaryType)}`, "eth_signTypedData_v4", [own, json]));
		},
		async sendTransaction({ chainId, to, data }: AccountCall) {
			await ready(chainId);
			const hash = hexOf(
				await ask(provider, "to send a transaction", "eth_sendTransaction", [{ from: own, to, data }]),
			);
			if (hash.length !== 66) throw new ProviderError("failed", "it answered with no transaction's hash");
			return hash;
		},
	};
}

/** The wallet may be on any chain: what it signs is for the one that is meant, or it does not sign. */
async function changeTo(provider: Provider, chainId: number): Promise<void> {
	if ((await chainOf(provider)) === chainId) return;
	await ask(provider, `to change to chain ${chainId}`, "wallet_switchEthereumChain", [
		{ chainId: `0x${chainId.toString(16)}` },
	]);
	const now = await chainOf(provider);
	if (now !== chainId) throw new ProviderError("chain", `it stays on chain ${now}; change it to chain ${chainId}`);
}

async function chainOf(provider: Provider): Promise<number> {
	const answer = await ask(provider, "to say which chain it is on", "eth_chainId");
	const chainId = Number(answer);
	if (!Number.isSafeInteger(chainId) || chainId < 1) throw new ProviderError("failed", "it names no chain");
	return chainId;
}

async function ask(
	provider: Provider,
	what: string,
	method: string,
	params: readonly unknown[] = [],
): Promise<unknown> {
	try {
		return await provider.request({ method, params });
	} catch (error) {
		const code = codeOf(error);
		if (code === REJECTED) throw new UserRejectedError(what);
		if (code === UNAUTHORIZED) throw new ProviderError("account", "it does not let this page have the account", error);
		if (code === UNKNOWN_CHAIN) throw new ProviderError("chain", "it does not know the chain; add that to it", error);
		throw new ProviderError("failed", `it was asked ${what}, and failed`, error);
	}
}

/** Some wallets wrap what another one answered. */
function codeOf(error: unknown): number | undefined {
	if (typeof error !== "object" || error === null) return undefined;
	const { code, data } = error as Readonly<{ code?: unknown; data?: Readonly<{ originalError?: unknown }> }>;
	const inner = data?.originalError;
	return inner === undefined ? (typeof code === "number" ? code : undefined) : codeOf(inner);
}

function accountsOf(answer: unknown): readonly Address[] {
	if (!Array.isArray(answer)) return [];
	return answer.filter((one): one is Address => /^0x[0-9a-fA-F]{40}$/.test(String(one))).map(lower);
}

function hexOf(answer: unknown): Hex {
	if (typeof answer === "string" && /^0x[0-9a-fA-F]+$/.test(answer)) return answer as Hex;
	throw new ProviderError("failed", "it answered with something else than hex digits");
}

function lower(address: Address): Address {
	return address.toLowerCase() as Address;
}
