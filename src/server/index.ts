/** The server: the engine, its store, and its faces: the Fastify plugin and the Web-standard handler. */

import type { EvmPrice } from "./evm/offer.ts";

export type { Admission, Admitted, Managed, PaidRequest, Payment, Refused, Replayed } from "./admission.ts";
export { ChainUnavailableError } from "./chainState.ts";
export { available, type ChainState, type Channel, type ChannelIdentity, reserved, unsettled } from "./channel.ts";
export type { EngineLog, Limits } from "./context.ts";
export { type ChallengeFor, PaymentEngine, type Transport } from "./engine.ts";
export type { ChargeOffer, EvmPrice, SessionOffer, Split } from "./evm/offer.ts";
export type { Terms } from "./evm/terms.ts";
export { HijackError, type SluiceOptions, sluice } from "./fastify.ts";
export {
	type FetchOptions,
	type MeteredHandler,
	type MeteredPrice,
	type PaidFetch,
	type PaidHandler,
	paid,
} from "./fetch.ts";
export type {
	AtRiskEvent,
	ChannelClosedEvent,
	ChannelOpenedEvent,
	ChargedEvent,
	CloseRequestedEvent,
	PaymentHooks,
	SettledEvent,
	SettlementFailedEvent,
	VoucherEvent,
} from "./hooks.ts";
export {
	type PaidRpc,
	type PaidRpcOptions,
	paidRpc,
	type RpcCall,
	type RpcMethod,
	RpcMethodError,
} from "./jsonrpc/paidRpc.ts";
export type { RpcFrom, RpcResponse } from "./jsonrpc/types.ts";
export { applyEvent, ImpossibleChainError, type LedgerEvent, type Transition } from "./ledger.ts";
export type { Offer, PaymentMethod, PriceConfig } from "./method.ts";
export { OfferError } from "./offer.ts";
export { type EngineOptions, EngineOptionsError, type TokenOptions } from "./options.ts";
export type { Price } from "./price.ts";
export type { AnyReceipt, MethodReceipt } from "./receipts.ts";
export { UnsendableResponseError } from "./responseBody.ts";
export type { Screened } from "./screen.ts";
export type { SettlementPolicy } from "./settlement/policy.ts";
export { type StopOptions, stopOnSignals } from "./signals.ts";
export {
	copyStore,
	type Holder,
	isStoreFolder,
	LevelStore,
	MemoryStore,
	openStoreCopy,
	readHolder,
	type StoreCopy,
} from "./store/index.ts";
export { type ChannelStore, CorruptRecordError, StoreUnavailableError } from "./store/store.ts";
export { EventTooLongError } from "./stream/eventCutter.ts";
export { type Piece, type ServerSentEvent, UnsendablePieceError } from "./stream/events.ts";
export { type EventPrice, meterEvents, type UpstreamEvent } from "./stream/gateway.ts";
export { type Meter, type MeterStop, MeterStoppedError } from "./stream/meter.ts";
export { type MeteredPayment, meterOf, NotMeteredError } from "./stream/meterOf.ts";
export { paidSocket } from "./stream/socket.ts";
export {
	type PaidSocket,
	type PaidSockets,
	type SocketHandler,
	SocketLibraryError,
	type SocketOptions,
	UnawaitedSendError,
} from "./stream/socketTypes.ts";
export { CatchUpError } from "./watch.ts";

/**
 * The price of a route, by payment method. A method of your own adds its member by augmenting this module, which is why it
 * is declared here: merging finds an interface only where it stands. Its price names the method; one that names none is of
 * `evm`.
 *
 * @example
 * declare module "sluice/server" {
 *   interface MethodPrices {
 *     invoice: { method: "invoice"; cents: bigint };
 *   }
 * }
 */
export interface MethodPrices {
	evm: EvmPrice;
}
