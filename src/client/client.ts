import { LRUCache } from "lru-cache";
import type { Hex } from "viem";
import { isExpired, type SessionRequest } from "../protocol/index.ts";
import type { TypedDataSigner } from "../voucher/index.ts";
import { sendsItself } from "./account.ts";
import { type Offer, retryAfterMs } from "./answer.ts";
import type { Offered, PayerChannel } from "./channel.ts";
import { keyOf, keyOfChannel } from "./channelKey.ts";
import { Channels } from "./channels.ts";
import { type ChargeParts, payCharge } from "./charge.ts";
import { acceptPaymentOf, type ChoiceParts, chooseOffer, parsePreference } from "./choose.ts";
import type { PaymentClientOptions } from "./clientOptions.ts";
import { type ClosedChannel, closeChannel } from "./close.ts";
import { withinDeadline } from "./deadline.ts";
import { Gate } from "./gate.ts";
import { Keeper } from "./keeper.ts";
import { Payments } from "./keptPayments.ts";
import { Nodes } from "./nodes.ts";
import { Outgoing } from "./outgoing.ts";
import { type OwnRequest, OwnRequests, type SentRequest } from "./ownRequests.ts";
import type { Outcome, Parts } from "./parts.ts";
import { isAllowed, type PaymentPolicy, type Policy, parsePolicy } from "./policy.ts";
import { type EvidenceOptions, evidence } from "./recovery/evidence.ts";
import type { Evidence } from "./recovery/evidenceSchema.ts";
import type { WaitOptions } from "./recovery/grace.ts";
import { handedOver } from "./recovery/handedOver.ts";
import type { RecoveryParts } from "./recovery/parts.ts";
import { type CloseRequest, requestClose } from "./recovery/requestClose.ts";
import type { SendingOptions } from "./recovery/send.ts";
import { type WatchOptions, watchChannels } from "./recovery/watch.ts";
import { type Withdrawal, withdraw } from "./recovery/withdraw.ts";
import { channelFromRecord, channelFromState } from "./resume.ts";
import { discard, type RetryOptions, sendWithRetries } from "./retry.ts";
import { paySession } from "./session.ts";
import { CredentialSigner } from "./sign.ts";
import { openSocket, type PayerSocket, type SocketOptions } from "./socket.ts";
import { MemoryPayerStore } from "./store/memoryStore.ts";
import type { ChannelRecord, ReceiptRecord } from "./store/store.ts";
import { streamEvents } from "./stream/events.ts";
import { parseStreamOptions, type StreamEvent, type StreamOptions, type StreamSettings } from "./stream/options.ts";
import { type Way, Ways } from "./ways.ts";

/** Routes whose price is remembered, so that the next request to them carries its voucher at once. */
const REMEMBERED_ROUTES = 1_000;

/** How often one request is paid for with another voucher, challenge or channel before its refusal is handed on. */
const MAX_TRIES = 4;

/**
 * A `fetch` that pays. A 402 is answered by opening a channel, by the next voucher of an open one, or by a charge, as far
 * as the policy allows; all other answers are handed on as they are.
 *
 * @example
 * const payer = new PaymentClient({ account, client, policy: { chainIds: [8453], tokens: [usdc], escrows: [escrow], hosts: ["api.example.com"], maxDeposit: 5_000_000n, maxPrice: 1_000n } });
 * const response = await payer.fetch("https://api.example.com/quote");
 * await payer.close();
 */
export class PaymentClient {
	readonly #channels: Channels;
	readonly #recovery: RecoveryParts;
	readonly #signers: readonly TypedDataSigner[];
	#policy: Policy;
	readonly #parts: ChoiceParts & ChargeParts;
	readonly #own = new OwnRequests();
	readonly #ways = new Ways();
	readonly #fetch: (request: Request) => Promise<Response>;
	readonly #retry: RetryOptions;
	readonly #now: () => number;
	readonly #acceptPayment: string | undefined;
	readonly #stream: StreamOptions;
	readonly #routes = new LRUCache<string, Offered<SessionRequest>>({ max: REMEMBERED_ROUTES });

	/** @throws PolicyError, ChannelStateError */
	constructor(options: PaymentClientOptions) {
		const { account, client, clients = {}, authorizedSigner, retry = {}, now = Date.now, resume = [] } = options;
		const { store = new MemoryPayerStore() } = options;
		this.#policy = parsePolicy(options.policy);
		const policy = () => this.#policy;
		const prefer = parsePreference(options.prefer);
		const nodes = new Nodes({ account, client, clients, now });
		const { sessionKeys, keyAccount, tokenNames } = options;
		const keys = { authorizedSigner, sessionKeys, keyAccount };
		const signer = new CredentialSigner({ account, ...keys, nodes, tokenNames, now });
		const restore = (record: ChannelRecord) => channelFromRecord(record, signer);
		const keeper = new Keeper({ store, payer: signer.payer, restore, now });
		this.#recovery = { store, nodes, payer: signer.payer, sendsItself: sendsItself(account), now };
		this.#signers = authorizedSigner === undefined ? [account] : [account, authorizedSigner];
		this.#channels = new Channels({ nodes, keeper, policy, now });
		this.#parts = {
			get policy() {
				return policy();
			},
			signer,
			nodes,
			gate: new Gate({ keeper, policy, approve: options.approve, now }),
			keeper,
			channels: this.#channels,
			payments: new Payments({ store, payer: signer.payer, now }),
			credentialTypes: options.credentialTypes,
			onStaleServer: options.onStaleServer,
			topUpBelow: options.topUpBelow ?? 0n,
			retry,
			stream: parseStreamOptions(options.stream),
			prefer,
			send: (request, credential) => this.#send(request, credential),
			usesChallengesOnce: (url) => this.#ways.to(url) !== undefined,
			now,
		};
		for (const state of resume) {
			const channel = channelFromState(state, signer);
			this.#channels.resume(keyOfChannel(channel), channel);
		}
		this.#fetch = this.#own.by(options.fetch ?? globalThis.fetch.bind(globalThis));
		this.#retry = retry;
		this.#stream = options.stream ?? {};
		this.#now = now;
		this.#acceptPayment = options.acceptPayment ?? acceptPaymentOf(prefer);
		this.fetch = this.fetch.bind(this);
		this.stream = this.stream.bind(this);
		this.socket = this.socket.bind(this);
	}

	/** The channels of this client that are open, or may be: their deposit was signed for. The store may hold others. */
	get channels(): readonly PayerChannel[] {
		return this.#channels.all;
	}

	/** Channels that their server says it does not know. Where the escrow does, `requestClose` there gets the deposit back (D10). */
	get forgotten(): readonly PayerChannel[] {
		return this.#channels.forgotten;
	}

	/**
	 * As the platform's `fetch`, and pays where payment is asked for. The request gets one `Idempotency-Key` unless it has
	 * one; its body is kept until it is answered. A redirect that answers a paid request is handed on, not followed; a 402
	 * behind a redirect is paid only within the origin, and only for `GET` and `HEAD`.
	 *
	 * An answer that is metered pays for itself as its body is read, with vouchers beside it; to cancel it is to stop paying.
	 * Where it can't be paid any further its body ends with the error that says why.
	 *
	 * @throws PolicyRefusedError when no offer is allowed, before anything is signed
	 * @throws DepositExhaustedError, OverchargeError, TopUpRefusedError, and what `fetch` throws
	 */
	async fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
		return this.#fetchPaid(new Request(input, init));
	}

	/**
	 * As `fetch`, sent in another way than this client's own: for clients that have connections of their own. Channels, limits
	 * and books are the same.
	 *
	 * @param by - sends each try, and the vouchers beside it
	 */
	async fetchBy(by: (request: Request) => Promise<Response>, request: Request): Promise<Response> {
		return this.#fetchPaid(request, undefined, (outgoing, credential) => this.#send(outgoing, credential, by));
	}

	/**
	 * From now on requests to addresses that begin with `prefix` are sent this way and not by `fetch`, those about channels that
	 * were opened there included. For what is paid for like HTTP and travels otherwise: `payMcp` and `payRpc` use it.
	 *
	 * @returns ends it; the channels stay, and need it again to be closed
	 */
	route(prefix: string, way: Way): () => void {
		return this.#ways.add(prefix, way);
	}

	/**
	 * This client's own request, on its way by its own `fetch`: not one to pay for again. Of two with the same key, method and
	 * URL at the same time, which are one to a server, both are taken for it.
	 */
	ownRequest(asked: SentRequest): OwnRequest | undefined {
		return this.#own.find(asked);
	}

	/**
	 * The events of a stream, which is paid for as it is read: to leave the loop is to stop paying. A connection that breaks is
	 * gone on with where its last event had an id: with `Last-Event-ID` and the same `Idempotency-Key`, so that nothing is
	 * paid twice. Each stream sends its request when its first event is asked for.
	 *
	 * @throws StreamRefusedError when the answer is no event stream
	 * @throws StreamBrokenError, StreamStoppedError, StreamLimitError, StreamVoucherRefusedError, and what `fetch` throws
	 * @example
	 * for await (const { data } of payer.stream("https://api.example.com/chat", { method: "POST", body })) process.stdout.write(data);
	 */
	stream(
		input: string | URL | Request,
		init?: RequestInit,
		options: StreamOptions = {},
	): AsyncGenerator<StreamEvent, void, undefined> {
		const settings = parseStreamOptions({ ...this.#stream, ...options });
		const parts = { fetch: (request: Request) => this.#fetchPaid(request, settings), retry: this.#retry };
		return streamEvents(parts, new Request(input, init));
	}

	/**
	 * A WebSocket that is paid for as it is read, by the policy of streams. Needs a server that takes payment by messages
	 * (`challengeInBand`), for no platform's WebSocket shows a 402, and a WebSocket: browsers and Node from 22 on have one.
	 *
	 * @throws SocketUnavailableError, SocketClosedError, SocketRefusedError, and what `fetch` throws
	 * @example
	 * const socket = await payer.socket("wss://api.example.com/chat");
	 * socket.send("Hello");
	 * for await (const message of socket) console.log(message);
	 */
	socket(url: string | URL, options: SocketOptions = {}): Promise<PayerSocket> {
		const parts = {
			pay: (request: Request, stream: StreamSettings, send: Parts["send"]) => this.#fetchPaid(request, stream, send),
			send: this.#parts.send,
			stream: this.#stream,
			now: this.#now,
		};
		return openSocket(parts, url, options);
	}

	#fetchPaid(plain: Request, stream?: StreamSettings, send = this.#parts.send): Promise<Response> {
		return withinDeadline(plain, this.#retry.deadlineMs, (request) => this.#fetchAndPay(request, stream, send));
	}

	async #fetchAndPay(plain: Request, stream: StreamSettings | undefined, send: Parts["send"]): Promise<Response> {
		const parts = { ...this.#parts, send };
		let request = await Outgoing.from(plain, this.#acceptPayment, stream);
		let offer = await this.#rememberedOffer(request);
		for (let triesLeft = MAX_TRIES; ; triesLeft--) {
			if (offer === undefined) {
				const response = await send(request);
				if (response.status !== 402) return response;
				const asked = response.redirected ? request.redirectedTo(response.url) : request;
				offer = asked && (await chooseOffer(parts, asked, response));
				if (asked === undefined || offer === undefined) return response;
				request = asked;
				discard(response);
			}
			const { response, again } = await this.#pay(parts, request, offer);
			if (!again || triesLeft === 1) return response;
			// A refusal that more of the same can mend: a fresh challenge, another price, a channel that is gone.
			offer = response.status === 402 ? await chooseOffer(parts, request, response) : undefined;
			discard(response);
		}
	}

	/**
	 * Closes every channel that no other process uses, or one, with what was consumed; the rest of the deposit goes back to the payer. Waits for
	 * requests on their way, and ends streams that are being read; later ones open another channel. Each close is checked on the payer's own node.
	 *
	 * @throws CloseRefusedError when a server does not (an AggregateError when several do not): its channel is still there
	 */
	async close(channelId?: string): Promise<readonly ClosedChannel[]> {
		const isWanted = (id: string) => channelId === undefined || id === channelId;
		const closed: ClosedChannel[] = [];
		const errors: unknown[] = [];
		const tried = new Set<string>();
		await this.#channels.adopt();
		// Of one key there may be several: each is taken when the one before is closed.
		do {
			const chosen = this.#channels.entries().filter(([, one]) => isWanted(one.channelId) && !tried.has(one.channelId));
			for (const [, one] of chosen) tried.add(one.channelId);
			const outcomes = await Promise.allSettled(chosen.map(([key, one]) => closeChannel(this.#parts, key, one)));
			errors.push(...outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : [])));
			closed.push(
				...outcomes.flatMap((outcome) => (outcome.status === "fulfilled" && outcome.value ? [outcome.value] : [])),
			);
		} while (await this.#channels.recallAll((id) => isWanted(id) && !tried.has(id)));
		if (errors.length > 1) throw new AggregateError(errors, `${errors.length} channels were not closed`);
		if (errors.length === 1) throw errors[0];
		return closed;
	}

	/**
	 * Lets other processes have the channels of this client on which nothing is on its way, without closing them. It takes
	 * them again when it needs them. Resolves when all that it knows of them is on disk.
	 */
	release(): Promise<void> {
		return this.#channels.release();
	}

	/**
	 * Asks the escrow itself for a channel's close, by a transaction of the payer's: the first half of getting the deposit back
	 * without the server. Nothing is signed for the channel from then on. Asking again is safe, in another process as well.
	 *
	 * @throws ChannelUnknownError, ChannelInUseError, NothingDepositedError, NoGasError, ContractPayerError
	 */
	async requestClose(channelId: Hex, options?: SendingOptions): Promise<CloseRequest> {
		return this.#recover(channelId, options?.signal, (parts) => requestClose(parts, channelId, options));
	}

	/**
	 * Waits for the end of the grace period and takes what is not settled back, exactly `deposit - settled`. The wait can be
	 * broken off, and gone on with by another process.
	 *
	 * @throws CloseNotRequestedError, GracePeriodError, and what `requestClose` throws
	 * @example
	 * await payer.requestClose(channelId);
	 * const { refund } = await payer.withdraw(channelId, { onProgress: ({ phase }) => console.log(phase) });
	 */
	async withdraw(channelId: Hex, options?: WaitOptions): Promise<Withdrawal> {
		return this.#recover(channelId, options?.signal, (parts) => withdraw(parts, channelId, options));
	}

	/** Watches all kept channels on the payer's own nodes, until the signal is aborted; see `WatchEvent`. */
	watch(options: WatchOptions): Promise<void> {
		return watchChannels(this.#recovery, options);
	}

	/** Everything about one channel for a dispute, as one JSON document, which `verifyEvidence` checks. */
	evidence(channelId: Hex, options?: EvidenceOptions): Promise<Evidence> {
		return evidence({ ...this.#recovery, signers: this.#signers }, channelId, options);
	}

	/** What was paid, as the servers' receipts say, the newest first: of a channel's vouchers the last one. */
	receipts(limit?: number): Promise<readonly ReceiptRecord[]> {
		return this.#recovery.store.receipts(limit);
	}

	/**
	 * Another policy from now on, for whatever is signed next, also on streams that are being read.
	 *
	 * @throws PolicyError; the old one stays then
	 */
	setPolicy(policy: PaymentPolicy): void {
		this.#policy = parsePolicy(policy);
	}

	/** Gets a channel's money back; if this client has the channel, nobody takes it in between. */
	async #recover<T>(
		channelId: Hex,
		signal: AbortSignal | undefined,
		work: (parts: RecoveryParts) => Promise<T>,
	): Promise<T> {
		const handed = handedOver(this.#recovery.store, await this.#channels.letGo(channelId, signal));
		try {
			return await work({ ...this.#recovery, store: handed.store });
		} finally {
			await handed.end();
		}
	}

	/** The price of a route that was paid before, if its channel is still open and its challenge good for this request. */
	async #rememberedOffer(request: Outgoing): Promise<Offer | undefined> {
		if (this.#ways.to(request.url) !== undefined) return undefined;
		const known = this.#routes.get(request.route);
		if (known === undefined || isExpired(known.challenge, this.#now())) return undefined;
		const { challenge, request: terms } = known;
		if (this.#channels.usable(keyOf(request, terms)) === undefined) return undefined;
		// By the policy as it is now.
		if (!isAllowed(this.#policy, request.host, terms) || !(await request.fits(challenge))) return undefined;
		return { intent: "session", challenge, request: terms };
	}

	async #pay(parts: ChoiceParts & ChargeParts, request: Outgoing, offer: Offer): Promise<Outcome> {
		request.signal.throwIfAborted();
		if (offer.intent === "charge") return payCharge(parts, request, offer);
		this.#routes.set(request.route, { challenge: offer.challenge, request: offer.request });
		return paySession(parts, request, offer);
	}

	#send(request: Outgoing, credential?: string, by = this.#ways.to(request.url) ?? this.#fetch): Promise<Response> {
		const attempt = async () => {
			try {
				return await by(request.with(credential));
			} catch (error) {
				if (credential !== undefined) request.answerLost = true;
				throw error;
			}
		};
		// Without a credential nobody is known to heed the `Idempotency-Key`.
		const retries = credential === undefined && !request.isSafe ? { retries: 0 } : {};
		return sendWithRetries(attempt, retryAfterMs, { ...this.#retry, ...retries, signal: request.signal });
	}
}
