import { BaseError, HttpRequestError, RpcError, SocketClosedError, TimeoutError, WebSocketRequestError } from "viem";
import { EndpointError } from "./endpointError.ts";
import { revertReason } from "./reverts.ts";

/** How nodes say that code ran and failed in another way than by `revert`. */
const FAILED_RUN =
	/out\s?of\s?gas|gas required exceeds|invalid (?:opcode|jump)|InvalidFEOpcode|InvalidJump|OpcodeNotFound|stack (?:under|over)flow|Stack(?:Under|Over)flow|VM execution error|EVM error|bad instruction|write protection|state ?change ?during ?static ?call/i;

/** The contract was asked and failed: it reverted, ran out of gas, or came upon what is no code. Internal. */
export function isContractFault(error: unknown): boolean {
	if (revertReason(error) !== undefined) return true;
	return error instanceof BaseError && FAILED_RUN.test(`${error.shortMessage} ${error.details}`);
}

/** The node failed, which says nothing about the contract. Internal. */
export function isNodeFault(error: BaseError): boolean {
	return (
		error.walk(
			(cause) =>
				cause instanceof HttpRequestError ||
				cause instanceof TimeoutError ||
				cause instanceof RpcError ||
				cause instanceof EndpointError ||
				cause instanceof WebSocketRequestError ||
				cause instanceof SocketClosedError,
		) !== null
	);
}
