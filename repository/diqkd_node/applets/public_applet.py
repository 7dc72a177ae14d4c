"""An applet that gets every public fact and needs no dataset in its command line."""

from artiq.applets.simple import SimpleApplet

from diqkd_node.public_facts import PREFIX


class PublicApplet(SimpleApplet):
    """Subscribes to all datasets `diqkd.…`."""

    def args_init(self):
        super().args_init()
        self.dataset_prefixes.append(PREFIX)
