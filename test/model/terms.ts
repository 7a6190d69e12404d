/**
 * The words of the reference model: what there is (state), what can be asked (calls), what must come of it (results).
 * Written from draft-evm-session-00, not from the contract. Addresses and hashes are lowercase, amounts are base units of
 * the token, times are Unix seconds.
 */
import type { Address, Hex } from "viem";

export const ZERO: Address = "0x0000000000000000000000000000000000000000";
export const UINT128_MAX = 2n ** 128n - 1n;
export const UINT256_MAX = 2n ** 256n - 1n;

/** Draft, "Channel State". */
export type Channel = Readonly<{
	payer: Address;
	payee: Address;
	token: Address;
	authorizedSigner: Address;
	deposit: bigint;
	settled: bigint;
	closeRequestedAt: bigint;
	finalized: boolean;
}>;

/** What a key can sign. The fields that EIP-712 puts into the domain are members here, so that they can be wrong too. */
export type Message =
	/** Draft, "Voucher Signing Format". */
	| Readonly<{ type: "Voucher"; chainId: number; contract: Address; channelId: Hex; cumulativeAmount: bigint }>
	/** Draft, "Payee-initiated functions". */
	| Readonly<{
			type: "SettleAuthorization" | "CloseAuthorization";
			chainId: number;
			contract: Address;
			channelId: Hex;
			cumulativeAmount: bigint;
			nonce: bigint;
			deadline: bigint;
	  }>
	/** EIP-3009; `contract` is the token. */
	| Readonly<{
			type: "ReceiveWithAuthorization" | "TransferWithAuthorization";
			chainId: number;
			contract: Address;
			from: Address;
			to: Address;
			value: bigint;
			validAfter: bigint;
			validBefore: bigint;
			nonce: Hex;
	  }>
	/** Permit2; `contract` is Permit2 (draft, "Open Payload (feePayer: true)", "TopUp Payload" and "Front-Running Protection"). */
	| Readonly<{
			type: "PermitWitnessTransferFrom";
			chainId: number;
			contract: Address;
			token: Address;
			amount: bigint;
			spender: Address;
			nonce: bigint;
			deadline: bigint;
			witness: Witness;
	  }>;

export type Witness =
	| Readonly<{ type: "ChannelOpenWitness"; payee: Address; salt: Hex; authorizedSigner: Address }>
	| Readonly<{ type: "ChannelTopUpWitness"; channelId: Hex }>;

/**
 * How a signature is written down. `canonical` is the draft's 65 bytes with a low s; `wrapped` is what the wallets of these
 * tests take: one byte, then their owner's canonical signature. The others are the ways to get the 65 bytes wrong.
 */
export type Form = "canonical" | "wrapped" | "high-s" | "v-0-or-1" | "compact";

/** Who signed what; the driver makes bytes of it. */
export type Signature = "empty" | Readonly<{ key: Address; message: Message; form: Form }>;

/** Draft, "Contract Functions": each function with its arguments, and who sends it. */
export type Call = Readonly<{ sender: Address }> &
	(
		| (Readonly<{ kind: "open" }> & OpenTerms)
		| (Readonly<{ kind: "openWithAuthorization" }> & OpenTerms & Eip3009Terms)
		| (Readonly<{ kind: "openWithPermit2" }> & OpenTerms & Permit2Terms)
		| (Readonly<{ kind: "topUp" }> & TopUpTerms)
		| (Readonly<{ kind: "topUpWithAuthorization"; topUpSalt: Hex }> & TopUpTerms & Eip3009Terms)
		| (Readonly<{ kind: "topUpWithPermit2" }> & TopUpTerms & Permit2Terms)
		| (Readonly<{ kind: "settle" | "close"; signature: Signature }> & VoucherTerms)
		| (Readonly<{
				kind: "settleWithAuthorization" | "closeWithAuthorization";
				nonce: bigint;
				deadline: bigint;
				payeeSignature: Signature;
				signature: Signature;
		  }> &
				VoucherTerms)
		| Readonly<{ kind: "requestClose" | "withdraw"; channelId: Hex }>
		| Readonly<{ kind: "settleMany" | "closeMany"; rows: readonly Row[] }>
	);

export type CallKind = Call["kind"];
export type OpenTerms = Readonly<{
	payee: Address;
	token: Address;
	deposit: bigint;
	salt: Hex;
	authorizedSigner: Address;
}>;
export type TopUpTerms = Readonly<{ channelId: Hex; additionalDeposit: bigint }>;
export type Eip3009Terms = Readonly<{
	from: Address;
	validAfter: bigint;
	validBefore: bigint;
	nonce: Hex;
	signature: Signature;
}>;
export type Permit2Terms = Readonly<{ from: Address; nonce: bigint; deadline: bigint; signature: Signature }>;
export type VoucherTerms = Readonly<{ channelId: Hex; cumulativeAmount: bigint }>;
/** A batch's row: a voucher whose signature is packed, so that only `canonical` ones survive the packing. */
export type Row = VoucherTerms & Readonly<{ signature: Signature }>;

/** Things that happen to the world around the escrow. */
export type Happening =
	| Readonly<{ kind: "approve"; token: Address; owner: Address; spender: Address; amount: bigint }>
	/** A plain transfer, to the escrow for example, which no channel may profit from. */
	| Readonly<{ kind: "transfer"; token: Address; from: Address; to: Address; amount: bigint }>
	| Readonly<{ kind: "block"; token: Address; account: Address; blocked: boolean }>;

/** An account with code that answers ERC-1271: for its owner's wrapped signatures, or for whatever it is shown. */
export type Wallet = Readonly<{ owner: Address } | { credulous: true }>;

export type Token = Readonly<{
	balances: Readonly<Record<Address, bigint>>;
	/** By `owner:spender`. */
	allowances: Readonly<Record<string, bigint>>;
	/** Accounts that the token neither takes from nor gives to. */
	blocked: Readonly<Record<Address, boolean>>;
	/** Used EIP-3009 nonces, by `authorizer:nonce`. */
	usedAuthorizations: Readonly<Record<string, true>>;
	/** What a receiver gets beyond the amount asked for: 0 for every token an escrow should be used with. */
	skew: bigint;
}>;

export type State = Readonly<{
	chainId: number;
	escrow: Address;
	permit2: Address;
	closeGracePeriod: bigint;
	/** The timestamp of the block that the next call is in. */
	time: bigint;
	wallets: Readonly<Record<Address, Wallet>>;
	tokens: Readonly<Record<Address, Token>>;
	channels: Readonly<Record<Hex, Channel>>;
	/** By `owner:nonce`. */
	usedPermits: Readonly<Record<string, true>>;
	/** By `payee:channelId:nonce`. */
	usedPayeeNonces: Readonly<Record<string, true>>;
}>;

/** An error that is right in this situation. Without `args` only its name counts: it is not the escrow's own. */
export type Refusal = Readonly<{ error: string; args?: readonly unknown[] }>;
export type Transfer = Readonly<{ token: Address; from: Address; to: Address; amount: bigint }>;
/** An event of the escrow; `reasons` of a skipped row are the errors of which it may carry any. */
export type Emitted = Readonly<{
	name: string;
	args: Readonly<Record<string, unknown>>;
	reasons?: readonly Refusal[];
}>;

export type Result =
	| Readonly<{ accepted: true; transfers: readonly Transfer[]; events: readonly Emitted[]; returns: unknown }>
	/** Where several conditions are violated at once, any of their errors is right. */
	| Readonly<{ accepted: false; refusals: readonly Refusal[] }>;

export type Outcome = Readonly<{ state: State; result: Result }>;
