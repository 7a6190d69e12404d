import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** Serves the page, from an origin that is not the paid server's. */
export type Site = Readonly<{ origin: string; stop(): Promise<void> }>;

const HTML = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Pays</title><link rel="icon" href="data:,"><script type="module" src="page.js"></script></head>
<body></body>
</html>
`;

export async function startSite(script: Uint8Array): Promise<Site> {
	const server = createServer(({ url }, response) => {
		if (url === "/") response.setHeader("content-type", "text/html; charset=utf-8").end(HTML);
		else if (url === "/page.js") response.setHeader("content-type", "text/javascript; charset=utf-8").end(script);
		else response.writeHead(404).end();
	});
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	return {
		origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
		async stop() {
			server.closeAllConnections();
			server.close();
			await once(server, "close");
		},
	};
}
