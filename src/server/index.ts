/** The server: the engine, its store, and the Fastify face. */

export type { Admission, Admitted, Managed, PaidRequest, Payment, Refused, Replayed } from "./admission.ts";
export { ChainUnavailableError } from "./chainState.ts";
export { available, type ChainState, type Channel, type ChannelIdentity, reserved, unsettled } from "./channel.ts";
export type { EngineLog, Limits } from "./context.ts";
export { PaymentEngine } from "./engine.ts";
export { sluice } from "./fastify.ts";
export { applyEvent, ChainRegressionError, type LedgerEvent, type Transition } from "./ledger.ts";
export { type Offer, OfferError, type PriceConfig, parseOffers, type Terms } from "./offer.ts";
export { type EngineOptions, EngineOptionsError } from "./options.ts";
export { LevelStore, MemoryStore } from "./store/index.ts";
export { type ChannelStore, CorruptRecordError, StoreUnavailableError } from "./store/store.ts";
