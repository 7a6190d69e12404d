import { type Address, getAddress, type Hex, type LocalAccount } from "viem";
import type { SignedAuthorization } from "../escrow/calls.ts";
import { readTokenDomain } from "../escrow/reads.ts";
import {
	type Challenge,
	formatCredential,
	formatSource,
	type Permit2OpenAuthorization,
	parseTimestamp,
} from "../protocol/index.ts";
import {
	type AuthorizationKind,
	type ChannelParameters,
	type ChannelPermit,
	createPermit2Domain,
	createVoucherDomain,
	type PaymentPermit,
	signAuthorization,
	signChannelPermit,
	signPaymentPermit,
	signVoucher,
	type TokenDomain,
	type VoucherDomain,
	ZERO_ADDRESS,
} from "../voucher/index.ts";
import type { Nodes } from "./nodes.ts";
import { remembered } from "./remembered.ts";

/** The longest that an authorization of money stays good, in seconds. A challenge can only ask for less. */
export const AUTHORIZATION_SECONDS = 300;

export type SignerOptions = Readonly<{
	/** The payer. */
	account: LocalAccount;
	/** A session key: signs vouchers of the channels that are opened with it, and nothing else. */
	authorizedSigner?: LocalAccount | undefined;
	nodes: Nodes;
	/** Instead of what tokens say of themselves. */
	tokenNames?: readonly TokenNames[] | undefined;
	now: () => number;
}>;

/** With which name and version a token signs. */
export type TokenNames = Readonly<{ chainId: number; token: string; name: string; version: string }>;

/** Where a Permit2 signature is good. */
export type Permit2At = Readonly<{ chainId: number; permit2: Address }>;

type PermitFields = Omit<Permit2OpenAuthorization, "witness">;

/** Signs with the payer's key, or its session key. It signs what it is told: the policy has been asked before. */
export class CredentialSigner {
	readonly #account: LocalAccount;
	readonly #sessionKey: LocalAccount | undefined;
	readonly #nodes: Nodes;
	readonly #now: () => number;
	readonly #voucherDomains = new Map<string, VoucherDomain>();
	readonly #tokenDomains = new Map<string, Promise<TokenDomain>>();
	readonly #tokenNames: readonly TokenNames[];

	constructor({ account, authorizedSigner, nodes, tokenNames = [], now }: SignerOptions) {
		this.#tokenNames = tokenNames;
		this.#account = account;
		this.#sessionKey = authorizedSigner;
		this.#nodes = nodes;
		this.#now = now;
	}

	get payer(): Address {
		return lower(this.#account.address);
	}

	/** Whom new channels name to sign vouchers: the session key, else the zero address, which stands for the payer (D13). */
	get authorizedSigner(): Address {
		const key = this.#sessionKey && lower(this.#sessionKey.address);
		return key === undefined || key === this.payer ? ZERO_ADDRESS : key;
	}

	/** Every `authorizedSigner` that vouchers can be signed for. */
	get signers(): readonly Address[] {
		return [ZERO_ADDRESS, this.payer, this.authorizedSigner];
	}

	/** A voucher, by whoever the channel names. */
	voucher(
		{ channelId, parameters }: Readonly<{ channelId: Hex; parameters: Omit<ChannelParameters, "salt"> }>,
		cumulativeAmount: bigint,
	): Promise<Hex> {
		const { chainId, escrow, authorizedSigner } = parameters;
		const key = `${chainId}:${escrow}`;
		const domain = this.#voucherDomains.get(key) ?? createVoucherDomain(chainId, escrow);
		this.#voucherDomains.set(key, domain);
		const bySessionKey = this.#sessionKey !== undefined && authorizedSigner === lower(this.#sessionKey.address);
		return signVoucher(bySessionKey ? this.#sessionKey : this.#account, domain, { channelId, cumulativeAmount });
	}

	/** An ERC-3009 authorization in the token's own domain, which is read from the payer's node. */
	async authorize(
		kind: AuthorizationKind,
		challenge: Challenge,
		{ chainId, token }: Readonly<{ chainId: number; token: Address }>,
		transfer: Readonly<{ to: Address; value: bigint; nonce: Hex }>,
	): Promise<SignedAuthorization> {
		const authorization = {
			from: this.payer,
			to: transfer.to,
			value: transfer.value,
			validAfter: 0n,
			validBefore: this.goodUntil(challenge),
			nonce: transfer.nonce,
		};
		const domain = await this.tokenDomain(token, chainId);
		return { ...authorization, signature: await signAuthorization(kind, this.#account, domain, authorization) };
	}

	/** A deposit through Permit2: all of its `authorization` but the witness, and the signature. */
	async permitChannel(
		challenge: Challenge,
		{ chainId, permit2 }: Permit2At,
		permit: Omit<ChannelPermit, "deadline">,
	): Promise<Readonly<{ permit: PermitFields; signature: Hex }>> {
		const { permitted, nonce } = permit;
		const deadline = this.goodUntil(challenge);
		const domain = createPermit2Domain(chainId, permit2);
		const signature = await signChannelPermit(this.#account, domain, { ...permit, deadline });
		return { permit: { from: this.payer, permitted: { ...permitted }, nonce, deadline }, signature };
	}

	/** A charge through Permit2; the challenge is in the witness. */
	async permitPayment(
		challenge: Challenge,
		{ chainId, permit2 }: Permit2At,
		permit: Omit<PaymentPermit, "deadline">,
	): Promise<Readonly<{ deadline: bigint; signature: Hex }>> {
		const deadline = this.goodUntil(challenge);
		const domain = createPermit2Domain(chainId, permit2);
		return { deadline, signature: await signPaymentPermit(this.#account, domain, { ...permit, deadline }) };
	}

	/** Unix seconds: an authorization lives as long as the challenge it answers, but never long (core, Amount Verification). */
	goodUntil({ expires }: Challenge): bigint {
		const latestMs = this.#now() + AUTHORIZATION_SECONDS * 1_000;
		const expiresMs = expires === undefined ? undefined : parseTimestamp(expires);
		return BigInt(Math.floor(Math.min(expiresMs ?? latestMs, latestMs) / 1_000));
	}

	/** A credential of this payer; `source` names it where there is a chain. */
	credential(challenge: Challenge, payload: Readonly<Record<string, unknown>>, chainId?: number): string {
		const source = chainId === undefined ? {} : { source: formatSource(chainId, getAddress(this.payer)) };
		return formatCredential({ challenge, payload: { ...payload }, ...source });
	}

	/**
	 * Read from the payer's own node, never taken from the server that wants the money.
	 *
	 * @throws TokenUnusableError when the token does not sign with the domain that it states
	 */
	tokenDomain(token: Address, chainId: number): Promise<TokenDomain> {
		return remembered(this.#tokenDomains, `${chainId}:${token}`, async () =>
			readTokenDomain(await this.#nodes.at(chainId), token, chainId, this.#namesOf(token, chainId)),
		);
	}

	#namesOf(token: Address, chainId: number): TokenNames | undefined {
		return this.#tokenNames.find((names) => names.chainId === chainId && lower(names.token as Address) === token);
	}
}

function lower(address: Address): Address {
	return address.toLowerCase() as Address;
}
