import { z } from "zod";
import { PAYMENT_MANAGE_METHOD, type RpcMessage } from "../../protocol/index.ts";

const managementSchema = z.object({
	method: z.string().min(1).max(256),
	params: z.union([z.record(z.string(), z.unknown()), z.array(z.unknown())]).exactOptional(),
});

/** Which operation a `payment.manage` is about; `undefined` where it does not say. */
export function managedCall({ params }: Pick<RpcMessage, "params">): z.output<typeof managementSchema> | undefined {
	const parsed = managementSchema.safeParse(params);
	return parsed.success ? parsed.data : undefined;
}

/** Whether a message is about a payment alone. */
export function isManagement({ method }: Pick<RpcMessage, "method">): boolean {
	return method === PAYMENT_MANAGE_METHOD;
}
