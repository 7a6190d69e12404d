import type { Hex, LocalAccount, PublicClient } from "viem";
import type { PayerAccount } from "./account.ts";
import type { Approve } from "./policy/approval.ts";
import type { PaymentPolicy } from "./policy.ts";
import type { StaleServer } from "./recovery/staleServer.ts";
import type { RetryOptions } from "./retry.ts";
import type { SessionKeyUse } from "./sessionKeys.ts";
import type { TokenNames } from "./sign.ts";
import type { PayerChannelState } from "./state.ts";
import type { PayerStore } from "./store/store.ts";
import type { StreamOptions } from "./stream/options.ts";

/** What a client pays with, what it may pay, and how. */
export type PaymentClientOptions = Readonly<{
	/** Signs for the payer; pays gas only where a server takes no authorizations. Any of viem's, or one of a browser's wallet. */
	account: PayerAccount;
	/**
	 * The payer's own node: token domains, allowances and channels are read there, never believed from the server. Which
	 * chain it is on is asked of it before anything is signed for that chain.
	 */
	client: PublicClient;
	/** Own nodes of further chains, by chain id. */
	clients?: Readonly<Record<number, PublicClient>>;
	/** What may be signed. */
	policy: PaymentPolicy;
	/** Says whether to pay what is above the policy's `approveAbove`. Without it that is refused. */
	approve?: Approve;
	/**
	 * The EIP-712 names and versions of tokens that do not tell them themselves, or others than they sign with. Either way they
	 * are checked against the token's `DOMAIN_SEPARATOR()` before anything is signed.
	 */
	tokenNames?: readonly TokenNames[];
	/** A session key: new channels name it as their `authorizedSigner`, and it signs their vouchers instead of the payer. */
	authorizedSigner?: LocalAccount;
	/**
	 * Whose channels get a key of their own, a fresh one each, that signs their vouchers: `always` everybody's, `contracts` those
	 * of contract wallets and of wallets in a browser, `never` nobody's. It is kept in the store with its channel. Default:
	 * `contracts`. Does nothing where an `authorizedSigner` is given.
	 */
	sessionKeys?: SessionKeyUse;
	/**
	 * Makes the accounts of the channels' own keys: `keyAccount` of `sluice/client/node`, which signs with libsecp256k1, or one
	 * of viem's. Default: JavaScript signs.
	 */
	keyAccount?: (key: Hex) => LocalAccount;
	/**
	 * What this client rather pays by, as ranges of `Accept-Payment`: `["evm/session", "evm/charge;q=0.5"]`. What no range
	 * matches is not paid. Default: anything, in the server's order.
	 */
	prefer?: readonly string[];
	/** The `Accept-Payment` that requests carry. Default: what `prefer` says, else none. */
	acceptPayment?: string;
	/**
	 * The credential types that this client uses (`authorization`, `permit2`, `hash`, `transaction`), in its own order.
	 * Default: all that it can produce, in the server's order.
	 */
	credentialTypes?: readonly string[];
	/**
	 * Tops a channel up with the next request when less than this is left of its deposit, in base units, and the top-up can
	 * be signed. Default: when the deposit does not cover a request.
	 */
	topUpBelow?: bigint;
	/** How answers are paid that are metered while they are read: how far ahead, and how they are counted. */
	stream?: StreamOptions;
	/**
	 * Keeps channels, what was signed and receipts, also for other processes of the same agent: `openWallet` of
	 * `sluice/client/node`, `openIndexedDbStore` of `sluice/client/browser`. Default: in memory, for this client alone.
	 */
	store?: PayerStore;
	/** Hears of a server that knows less of a channel than it has acknowledged before: it may ask for the difference again. */
	onStaleServer?: (stale: StaleServer) => void;
	/** Channels of an earlier client (`channel.state()`), to go on with. The escrow is asked before one is used. */
	resume?: readonly PayerChannelState[];
	/** Default: the platform's `fetch`. */
	fetch?: typeof globalThis.fetch;
	retry?: RetryOptions;
	/** Unix milliseconds. */
	now?: () => number;
}>;
